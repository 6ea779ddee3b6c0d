"""Every sum over tokens is float32, whatever the precision: read off the train step as accelerators get it.

A sum in 16 bits stops growing: in bfloat16 ones add up to 256 and no further.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend import core

from bertjax import batch as batches
from bertjax.config import ModelConfig, ParallelConfig, PhaseConfig, RunConfig
from bertjax.engine import job as job_module
from bertjax.finetune import objectives
from bertjax.model.bert import merge_params, split_params
from bertjax.model.dropout import DropoutSeed
from bertjax.model.precision import precision_named
from bertjax.model.task import TaskConfig, TaskModel
from bertjax.parallel.mesh import make_mesh
from bertjax.train import pretraining_job as jobs

# No product of rows with anything (6 rows, also in two parts of 3) is the size of a feature, so that an axis tells by
# its size what it counts.
ROWS, LENGTH, PREDICTIONS, EXAMPLES = 6, 20, 5, 3
MODEL = ModelConfig(
    vocab_size=200,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=LENGTH,
)
LABELS = 7
# Hidden size, size of a head, MLP, padded vocabulary, labels (of NSP, of regression); and the length of a row, which
# attention sums over: its products stay with their row, are accumulated in float32 and rounded once, as every
# activation is.
SUMMED_IN_PRODUCTS = {32, 16, 64, 256, LABELS, 2, 1, LENGTH}
SUMS = {"reduce_sum", "reduce_prod", "scatter-add", "cumsum", "psum", "psum2", "psum_invariant", "reduce_scatter"}
SUMS |= {"reduce", "reduce_window_sum", "conv_general_dilated", "ragged_dot_general", "scatter-mul"}
LOW = [jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16)]


def equations(jaxpr):
    """All equations, those of nested jaxprs too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: isinstance(x, core.ClosedJaxpr | core.Jaxpr)
        ):
            if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
                yield from equations(value.jaxpr if isinstance(value, core.ClosedJaxpr) else value)


def sums_in_16_bits(function, *arguments):
    """Each sum of 16-bit numbers with a 16-bit result that may run over tokens, in words; and the number of products
    that were looked at."""
    found, products = [], 0
    for equation in equations(jax.make_jaxpr(function)(*arguments).jaxpr):
        name, low = equation.primitive.name, equation.outvars[0].aval.dtype in LOW if equation.outvars else False
        if name == "dot_general":
            products += 1
            (left, _), _ = equation.params["dimension_numbers"]
            over = {equation.invars[0].aval.shape[axis] for axis in left}
            low = low and not over <= SUMMED_IN_PRODUCTS
        if low and (name in SUMS or name == "dot_general"):
            found.append(f"{name}: {', '.join(str(v.aval) for v in (*equation.invars, *equation.outvars))}")
    return found, products


@pytest.fixture(autouse=True)
def as_on_accelerators(monkeypatch):
    monkeypatch.setattr(job_module, "precision_named", lambda name, backend: precision_named(name, "tpu"))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("model", "rows", "mesh"),
    [
        pytest.param({}, 0, (1, 1, 1), id="scanned"),
        pytest.param({"scan_layers": False, "remat": "layer"}, 3, (1, 1, 1), id="unrolled, remat, in 2 parts"),
        pytest.param({"remat": "save_matmuls", "hidden_act": "gelu_new"}, 0, (1, 1, 1), id="remat"),
        pytest.param({"attention": "dot_product", "attention_probs_dropout_prob": 0.0}, 0, (1, 1, 1), id="dot_product"),
        pytest.param({"position_embedding_type": "sinusoidal"}, 0, (1, 2, 2), id="divided"),
    ],
)
def test_pretraining(precision, model, rows, mesh):
    phase = PhaseConfig(LENGTH, ROWS, 10, PREDICTIONS, learning_rate=1e-3, warmup_steps=1)
    run = RunConfig(
        model=dataclasses.replace(MODEL, **model),
        phases={"phase1": phase},
        parallel=ParallelConfig(rows_per_device=rows or ROWS),
        precision=precision,
    )
    job = jobs.make_job(run, make_mesh(*mesh, devices=jax.devices()[: int(np.prod(mesh))]))
    shapes = batches.shapes(ROWS, LENGTH, PREDICTIONS, EXAMPLES)
    batch = {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}
    found, products = sums_in_16_bits(job.train_step(phase), job.state_shapes(), batch)
    assert products > 30
    assert found == []
    assert {x.dtype for x in jax.tree.leaves(job.state_shapes().params)} == {jnp.dtype(jnp.float32)}
    assert sums_in_16_bits(job.eval_step(), job.state_shapes().params, batch)[0] == []


WHAT_IS_LEARNED = {
    "classification": (objectives.classes, np.zeros(ROWS, np.int32)),
    "multi_label": (objectives.multi_label, np.zeros((ROWS, LABELS), np.float32)),
    "regression": (lambda _: objectives.regression(), np.zeros(ROWS, np.float32)),
    "tagging": (objectives.classes, np.zeros((ROWS, LENGTH), np.int32)),
    "answering": (lambda _: objectives.answering(), np.zeros((ROWS, 2), np.int32)),
    "scored pairs": (lambda _: objectives.cosent(0.05), np.zeros(ROWS, np.int32)),
    "embedding": (lambda _: objectives.contrastive(0.05), np.zeros(ROWS, np.int32)),
}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", WHAT_IS_LEARNED)
def test_finetuning(kind, precision):
    make, labels = WHAT_IS_LEARNED[kind]
    count = {"regression": 1, "answering": 0, "embedding": 0, "scored pairs": 0}.get(kind, LABELS)
    task = TaskConfig("embedding" if kind == "scored pairs" else kind, tuple(map(str, range(count))), LENGTH)
    model = TaskModel(MODEL, task, nnx.Rngs(0), precision=precision_named(precision, "tpu"))
    graphdef, params = split_params(model)
    ids = np.ones((ROWS, LENGTH), np.int32)
    batch = {"input_ids": ids, "token_type_ids": 0 * ids, "example_ids": ids, "labels": labels}
    batch["weights"] = np.ones(ROWS, np.float32)
    batch["scores"] = np.arange(ROWS, dtype=np.float32)
    objective = make(None)

    def loss(params, batch, rows):
        output = merge_params(graphdef, params).on_batch(batch, DropoutSeed(jnp.uint32(0), jnp.uint32(1), rows))
        return objective.total(objective.sums(output, batch), objective.weights(batch))

    found, products = sums_in_16_bits(jax.grad(loss), params, batch, np.arange(ROWS, dtype=np.uint32))
    assert products > 20
    assert found == []


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_the_gradient_of_a_bias_counts_every_token(name):
    tokens = 5003  # beyond what either type has room for
    precision, x = precision_named(name, "tpu"), jnp.zeros((tokens, 4), jnp.dtype(name))
    project = lambda bias: precision.project(x, jnp.zeros((4, 3), jnp.float32), bias).astype(jnp.float32).sum()
    np.testing.assert_array_equal(jax.jit(jax.grad(project))(jnp.zeros(3)), np.full(3, tokens, np.float32))


FAULTS = {
    "a bias that is rounded first": lambda x, p: x + p[0].astype(x.dtype)[None, :],
    "a product whose gradient has the type of its factors": lambda x, p: x @ p.astype(x.dtype),
    "rows of a table that is rounded first": lambda x, p: jnp.take(p.astype(x.dtype), jnp.arange(120) % 3, axis=0),
    "a mean over the tokens": lambda x, p: jax.lax.reduce_sum(x * p[0].astype(x.dtype)[None, :], axes=(0,)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_layer_that_brings_the_fault_back_is_found(fault):
    x = jnp.zeros((ROWS * LENGTH, 32), jnp.bfloat16)
    loss = lambda p: FAULTS[fault](x, p).astype(jnp.float32).sum()
    found, _ = sums_in_16_bits(jax.grad(loss), jnp.zeros((32, 32)))
    assert len(found) >= 1
