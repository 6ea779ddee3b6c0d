"""The loss over the vocabulary without its logits equals that of the logits, whole and in blocks, on one device and on
eight."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import log_softmax

from bertjax.config import ModelConfig, PhaseConfig, RunConfig
from bertjax.data.stream.pipeline import open_batches
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.heads import PADDING_LOGIT, VocabularyProjection
from bertjax.model.precision import FLOAT32, precision_named
from bertjax.objectives import vocabulary_loss
from bertjax.objectives.losses import pretraining_loss, weighted_cross_entropy
from bertjax.objectives.registry import phase_settings
from bertjax.objectives.vocabulary_loss import vocabulary_cross_entropy
from bertjax.parallel.mesh import make_mesh
from bertjax.parallel.sharding import to_global
from bertjax.train.pretraining_job import make_job

IDS, PADDED, TOKENS, HIDDEN = 601, 640, 24, 16
WHOLE, BLOCKS, BLOCKS_THAT_DIVIDE = (1024, 512), (64, 128), (64, 160)  # 640 ids: five blocks, or four


def projection_of(random, precision=FLOAT32):
    bias = np.where(np.arange(PADDED) < IDS, random.normal(size=PADDED), PADDING_LOGIT).astype(np.float32)
    features = jnp.asarray(random.normal(size=(4, 6, HIDDEN)), precision.activations)
    table = jnp.asarray(random.normal(size=(PADDED, HIDDEN)), jnp.float32)
    return VocabularyProjection(features, table, jnp.asarray(bias), PADDED, precision)


def arranged(monkeypatch, sizes):
    monkeypatch.setattr(vocabulary_loss, "MOST_WHOLE", sizes[0])
    monkeypatch.setattr(vocabulary_loss, "BLOCK_IDS", sizes[1])


def both(projection, labels, weights):
    """(value, gradients) from the projection, and by autodiff of the plain formula."""

    def of_projection(projection, weights):
        loss, hits = vocabulary_cross_entropy(projection, labels, weights)
        return 0.7 * loss, hits

    def of_logits(projection, weights):
        logits = projection.logits()
        at_label = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)[..., 0]
        return -0.7 * jnp.sum(at_label * weights), jnp.sum((logits.argmax(-1) == labels) * weights)

    run = lambda f: jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(projection, weights)
    return run(of_projection), run(of_logits)


@pytest.mark.parametrize("sizes", [WHOLE, BLOCKS, BLOCKS_THAT_DIVIDE, (64, 640), (64, 4096)])
def test_equals_the_plain_formula(sizes, monkeypatch):
    arranged(monkeypatch, sizes)
    random = np.random.default_rng(0)
    projection = projection_of(random)
    labels = random.integers(0, IDS, (4, 6))
    labels[:2] = np.asarray(projection.logits().argmax(-1))[:2]  # so that there are hits
    labels[3, 5] = IDS - 1
    weights = jnp.asarray(random.random((4, 6)) * (random.random((4, 6)) < 0.8), jnp.float32)
    ((loss, hits), found), ((plain, plain_hits), expected) = both(projection, jnp.asarray(labels), weights)
    logits = np.asarray(projection.logits(), np.float64)
    exact = -0.7 * (np.take_along_axis(log_softmax(logits, -1), labels[..., None], -1)[..., 0] * weights).sum()
    assert float(loss) == pytest.approx(float(exact), rel=1e-6)
    assert float(loss) == pytest.approx(float(plain), rel=1e-6)
    assert float(hits) == pytest.approx(float(plain_hits), rel=1e-6) and float(hits) > 2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * np.abs(b).max()), found, expected)
    of_bias, of_table = (np.asarray(x) for x in (found[0].bias, found[0].table))
    assert np.all(of_bias[IDS:] == 0) and np.all(of_table[IDS:] == 0) and np.all(np.abs(of_bias[:IDS]) > 0)


@pytest.mark.parametrize("sizes", [WHOLE, BLOCKS])
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_lower_precisions_round_where_the_plain_formula_does(sizes, name, monkeypatch):
    arranged(monkeypatch, sizes)
    random = np.random.default_rng(1)
    precision = precision_named(name, "gpu")
    projection = projection_of(random, precision)
    labels, weights = jnp.asarray(random.integers(0, IDS, (4, 6))), jnp.ones((4, 6))
    ((loss, _), found), ((plain, _), expected) = both(projection, labels, weights)
    assert float(loss) == pytest.approx(float(plain), rel=1e-6)
    assert found[0].features.dtype == precision.activations and found[0].table.dtype == jnp.float32
    # A softmax that differs in its last float32 bit may be rounded to the neighbour.
    within = float(jnp.finfo(precision.operands).eps)
    difference = lambda a, b: np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).max() / np.abs(b).max()
    assert max(jax.tree.leaves(jax.tree.map(difference, found, expected))) < within


def test_far_logits_are_numbers(monkeypatch):
    """Logits thousands apart, and a label whose probability is 0 in float32."""
    for sizes in (WHOLE, BLOCKS):
        arranged(monkeypatch, sizes)
        projection = dataclasses.replace(
            projection_of(np.random.default_rng(2)), bias=jnp.linspace(-9e3, 9e3, PADDED, dtype=jnp.float32)
        )
        labels = jnp.asarray(np.random.default_rng(2).integers(0, IDS, (4, 6)))
        ((loss, _), found), ((plain, _), expected) = both(projection, labels, jnp.ones((4, 6)))
        assert float(loss) == pytest.approx(float(plain), rel=1e-6) and float(loss) > 1e4
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * np.abs(b).max()), found, expected)


def test_losses_of_logits_neither_gather_nor_scatter():
    text = jax.jit(jax.grad(lambda x: weighted_cross_entropy(x, jnp.arange(4), jnp.ones(4))[0])).lower(jnp.ones((4, 9)))
    assert "gather" not in text.as_text() and "scatter" not in text.as_text()


MODEL = ModelConfig(
    vocab_size=1000,
    hidden_size=24,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=32,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
PHASE = PhaseConfig(sequence_length=32, batch_size=16, steps=9, max_predictions=5, learning_rate=1e-2, warmup_steps=0)
RUN = RunConfig(model=MODEL, phases={"phase1": PHASE}, precision="float32")


@pytest.fixture(scope="module")
def batch(synthetic):
    corpus, tokenizer = synthetic
    with open_batches(corpus, tokenizer, [phase_settings(RUN, 0)], 0, 0, 16, prefetch=0) as batches:
        return next(batches)[0]


@pytest.mark.parametrize("masked", [True, False])
def test_the_model_hands_over_what_its_logits_are_made_of(masked, batch):
    model = Bert(MODEL, nnx.Rngs(0))
    positions = {"masked_lm_positions": batch["masked_lm_positions"]} if masked else {}
    output = model(batch["input_ids"], example_ids=batch["example_ids"], **positions)
    logits = output.mlm_logits
    assert logits.shape == ((16, 5, 1024) if masked else (16, 32, 1000))
    np.testing.assert_allclose(output.projections["mlm_logits"].logits(), logits, atol=1e-6)
    labels = batch["masked_lm_ids"] if masked else batch["input_ids"]
    weights = jnp.ones(labels.shape)
    found = vocabulary_cross_entropy(output.projections["mlm_logits"], jnp.asarray(labels), weights)
    for a, b in zip(found, weighted_cross_entropy(logits, jnp.asarray(labels), weights), strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-6)


def test_no_logits_are_computed_for_the_loss(batch, monkeypatch):
    arranged(monkeypatch, (512, 256))
    graphdef, params = split_params(Bert(MODEL, nnx.Rngs(0)))
    loss = lambda params, batch: pretraining_loss(merge_params(graphdef, params).on_batch(batch), batch)[0]
    text = jax.jit(jax.grad(loss)).lower(params, batch).compile().as_text()
    assert re.search(r"f32\[80,(16,16|256)\]", text) and not re.search(r"\[(80|16,5),1024\]", text)


@pytest.mark.parametrize("sizes", [WHOLE, (512, 384)])
def test_eight_devices_do_what_one_does_and_gather_no_logits(sizes, batch, monkeypatch):
    arranged(monkeypatch, sizes)
    found = {}
    for shape in ((1, 1, 1), (2, 2, 2)):
        mesh = make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])
        job = make_job(RUN, mesh)
        state, rows = job.initial_state(), to_global(batch, mesh)
        step = job.train_step(PHASE)
        if mesh.size > 1:
            text = step.lower(state, rows).compile().as_text()
            # A device's logits are [20, 512], in blocks [20, 192] and [20, 128]. Parameters may be gathered over fsdp;
            # they have a dimension of the hidden size, 24, or its half.
            for line in text.split("\n"):
                for dims in re.findall(r" = f32\[([\d,]+)\]\S* (?:all-gather|all-to-all|collective-permute)", line):
                    shape = [int(n) for n in dims.split(",")]
                    assert np.prod(shape) < 20 * 128 or {12, 24} & set(shape), line
        losses = []
        for _ in range(5):
            state, metrics = step(state, rows)
            losses.append((float(metrics["loss"]), float(metrics["mlm_accuracy"])))
        found[mesh.size] = losses
    np.testing.assert_allclose(found[8], found[1], rtol=1e-5)
    assert found[1][-1][0] < 0.9 * found[1][0][0]
