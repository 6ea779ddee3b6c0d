"""Task heads give what transformers' classes give on the same weights."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict

from bertjax.config import ModelConfig
from bertjax.model.bert import merge_params, split_params
from bertjax.model.dropout import DropoutSeed
from bertjax.model.flops import train_flops_per_row
from bertjax.model.task import KINDS, TaskConfig, TaskModel

CONFIG = ModelConfig(
    vocab_size=100,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=32,
)
LABELS = {
    "classification": ("no", "yes"),
    "multi_label": ("a", "b", "c"),
    "regression": ("score",),
    "tagging": ("O", "B-x"),
}
IDS = np.random.default_rng(0).integers(5, 100, (3, 12))
MASK = (np.arange(12)[None, :] < np.array([[12], [7], [3]])).astype(np.int32)


def model_of(kind, **task):
    return TaskModel(CONFIG, TaskConfig(kind, LABELS.get(kind, ()), **task), nnx.Rngs(0))


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_by_kind(kind):
    output = model_of(kind)(IDS, attention_mask=MASK)
    shapes = {
        "classification": (3, 2),
        "multi_label": (3, 3),
        "regression": (3, 1),
        "tagging": (3, 12, 2),
        "answering": (3, 12, 2),
        "embedding": (3, 32),
    }
    values = output.embeddings if kind == "embedding" else output.logits
    assert values.shape == shapes[kind] and values.dtype == np.float32
    assert (output.logits is None) == (kind == "embedding")


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    model = model_of(kind)
    padded, alone = model(IDS, attention_mask=MASK), model(IDS[1:2, :7])
    rows = lambda output: output.embeddings if kind == "embedding" else output.logits
    cut = rows(padded)[1:2, :7] if kind in ("tagging", "answering") else rows(padded)[1:2]
    np.testing.assert_allclose(cut, rows(alone), atol=1e-5)


def test_mean_pooling_is_the_mean_over_the_tokens_and_cls_the_first():
    sequence = np.asarray(model_of("embedding").bert(IDS, attention_mask=MASK).sequence_output)
    mean = (sequence * MASK[:, :, None]).sum(1) / MASK.sum(1)[:, None]
    np.testing.assert_allclose(model_of("embedding")(IDS, attention_mask=MASK).embeddings, mean, atol=1e-5)
    at_cls = model_of("embedding", pooling="cls")(IDS, attention_mask=MASK).embeddings
    np.testing.assert_allclose(at_cls, sequence[:, 0], atol=1e-6)


def test_parameters_are_the_encoder_and_the_head():
    graphdef, params = split_params(model_of("tagging"))
    assert set(params) == {"bert", "classifier"} and params["classifier"]["kernel"].shape == (32, 2)
    assert not [path for path in flatten_dict(params["bert"]) if path[0] in ("mlm_head", "nsp_head")]
    assert set(split_params(model_of("answering"))[1]) == {"bert", "qa_outputs"}
    assert set(split_params(model_of("embedding"))[1]) == {"bert"}
    again = merge_params(graphdef, params)
    np.testing.assert_array_equal(again(IDS).logits, model_of("tagging")(IDS).logits)


def test_dropout_before_the_head_has_its_own_rate_and_place():
    dropout_seed = DropoutSeed(*(np.uint32(n) for n in (1, 2)), np.arange(3, dtype=np.uint32))
    still = CONFIG.__class__(**(CONFIG.__dict__ | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    quiet, loud = (
        TaskModel(still, TaskConfig("tagging", ("O", "B-x"), classifier_dropout=rate), nnx.Rngs(0))
        for rate in (None, 0.5)
    )
    plain = quiet(IDS).logits
    np.testing.assert_array_equal(quiet(IDS, dropout_seed=dropout_seed).logits, plain)
    dropped = np.asarray(loud(IDS, dropout_seed=dropout_seed).logits)
    assert np.abs(dropped - plain).max() > 1e-3
    np.testing.assert_array_equal(loud(IDS).logits, plain)


def torch_model(kind, params):
    """transformers' class for a kind, with the parameters of ours."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from bertjax.interop.weights import entries

    classes = {
        "classification": transformers.BertForSequenceClassification,
        "multi_label": transformers.BertForSequenceClassification,
        "regression": transformers.BertForSequenceClassification,
        "tagging": transformers.BertForTokenClassification,
        "answering": transformers.BertForQuestionAnswering,
    }
    shared = {k: v for k, v in CONFIG.__dict__.items() if k not in ("attention", "scan_layers", "remat")}
    theirs = classes[kind](transformers.BertConfig(**shared, num_labels=len(LABELS.get(kind, (0, 1))))).eval()
    tensors = {}
    for path, value in flatten_dict(params["bert"], sep="/").items():
        entry, value = entries(CONFIG)[path], np.asarray(value)
        if path == "embeddings/word_embeddings":
            value = value[: CONFIG.vocab_size]
        for name, part in zip(entry.names, value if "layers" in entry.spec.axes else [value], strict=True):
            tensors[name] = part.T if entry.spec.transposed else part
    head = "qa_outputs" if kind == "answering" else "classifier"
    tensors |= {
        f"{head}.weight": np.asarray(params[head]["kernel"]).T,
        f"{head}.bias": np.asarray(params[head]["bias"]),
    }
    missing, unexpected = theirs.load_state_dict({k: torch.tensor(v.copy()) for k, v in tensors.items()}, strict=False)
    assert not missing and all("pooler" in name for name in unexpected)
    return theirs


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "embedding"])
def test_logits_are_those_of_transformers(kind):
    torch = pytest.importorskip("torch")
    model = model_of(kind)
    params = jax.tree.map(
        lambda x: x + 0.01 * np.random.default_rng(1).standard_normal(x.shape), split_params(model)[1]
    )
    model = merge_params(split_params(model)[0], jax.tree.map(np.float32, params))
    theirs = torch_model(kind, jax.tree.map(np.float32, params))
    with torch.no_grad():
        output = theirs(torch.tensor(IDS), attention_mask=torch.tensor(MASK))
    logits = np.asarray(model(IDS, attention_mask=MASK).logits)
    if kind == "answering":
        expected = np.stack([output.start_logits.numpy(), output.end_logits.numpy()], axis=-1)
    else:
        expected = output.logits.numpy()
    real = MASK.astype(bool) if kind in ("tagging", "answering") else np.ones(3, bool)
    np.testing.assert_allclose(logits[real], expected[real], atol=1e-5)


def plainly(model, **inputs):
    """The logits from the encoder's whole sequence_output, as the definition has them; embeddings likewise."""
    arguments = model.bert.checked(
        inputs["input_ids"], None, None, inputs.get("example_ids"), inputs.get("attention_mask")
    )
    output = model.bert.compute(**arguments)
    if model.task.kind == "embedding":
        return output.sequence_output[:, 0]
    return model.classifier(output.pooled_output, model.bert.precision)


@pytest.mark.parametrize("kind", ["classification", "embedding"])
@pytest.mark.parametrize("mask", [{}, {"attention_mask": MASK}, {"example_ids": MASK}])
@pytest.mark.parametrize(
    "how",
    [
        {"scan_layers": True},
        {"scan_layers": False},
        {"scan_layers": True, "remat": "layer"},
        {"scan_layers": False, "remat": "save_matmuls"},
        {"attention": "dot_product", "attention_probs_dropout_prob": 0.0},
        {"num_hidden_layers": 1},
    ],
)
def test_last_layer_at_cls_alone_is_the_whole_layer_s(kind, mask, how):
    """What the last layer would do at other positions reaches neither the outputs nor any gradient."""
    config = dataclasses.replace(CONFIG, num_hidden_layers=3) if "num_hidden_layers" not in how else CONFIG
    task = TaskConfig(kind, LABELS.get(kind, ()), pooling="cls")
    graphdef, params = split_params(TaskModel(dataclasses.replace(config, **how), task, nnx.Rngs(0)))

    def loss(params, compute):
        values = compute(merge_params(graphdef, params))
        return (values * jax.random.normal(jax.random.key(1), values.shape)).sum(), values

    def ours(model):
        output = model(IDS, **mask)
        return output.embeddings if kind == "embedding" else output.logits

    (_, expected), plain = jax.value_and_grad(loss, has_aux=True)(params, lambda m: plainly(m, input_ids=IDS, **mask))
    (_, values), grads = jax.value_and_grad(loss, has_aux=True)(params, ours)
    np.testing.assert_allclose(values, expected, atol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6 * max(1.0, float(abs(b).max()))), grads, plain)


def test_dropout_of_the_last_layer_does_not_depend_on_how_layers_run():
    dropout_seed = DropoutSeed(np.uint32(1), np.uint32(2), np.arange(3, dtype=np.uint32))
    outputs = []
    for scan in (True, False):
        model = TaskModel(
            dataclasses.replace(CONFIG, scan_layers=scan),
            TaskConfig("classification", LABELS["classification"]),
            nnx.Rngs(0),
        )
        outputs.append(model(IDS, attention_mask=MASK, dropout_seed=dropout_seed).logits)
    np.testing.assert_allclose(*outputs, atol=2e-6)
    assert np.abs(outputs[0] - model(IDS, attention_mask=MASK).logits).max() > 1e-3


def products(jaxpr):
    """FLOPs of the matrix products in a jaxpr, two per multiply-add."""
    total = 0
    for equation in jaxpr.eqns:
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = getattr(inner, "jaxpr", inner)
            total += products(inner) if hasattr(inner, "eqns") else 0
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            sizes = [equation.invars[0].aval.shape[axis] for axis in contracted]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(sizes)
    return total


@pytest.mark.parametrize("kind", ["classification", "tagging"])
def test_flops_by_formula_are_those_of_the_program(kind):
    config = dataclasses.replace(CONFIG, num_hidden_layers=3, scan_layers=False)
    task = TaskConfig(kind, LABELS[kind])
    model = TaskModel(config, task, nnx.Rngs(0))
    counted = products(jax.make_jaxpr(lambda ids: model(ids).logits)(IDS).jaxpr)
    (B, S), H = IDS.shape, config.hidden_size
    of_head = 2 * B * H * 2 * (1 if kind == "classification" else S)
    beside = of_head + 2 * B * H * H + 2 * B * S * H * 2  # head, pooler, token types as one-hot product
    assert counted - beside == B * train_flops_per_row(config, S, 0, task.num_positions) / 3
