"""Task heads give what transformers' classes give on the same weights."""

import jax
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict

from bertjax.config import ModelConfig
from bertjax.model.bert import merge_params, split_params
from bertjax.model.dropout import Noise
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
    noise = Noise(*(np.uint32(n) for n in (1, 2)), np.arange(3, dtype=np.uint32))
    still = CONFIG.__class__(**(CONFIG.__dict__ | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    quiet, loud = (
        TaskModel(still, TaskConfig("tagging", ("O", "B-x"), classifier_dropout=rate), nnx.Rngs(0))
        for rate in (None, 0.5)
    )
    plain = quiet(IDS).logits
    np.testing.assert_array_equal(quiet(IDS, noise=noise).logits, plain)
    dropped = np.asarray(loud(IDS, noise=noise).logits)
    assert np.abs(dropped - plain).max() > 1e-3
    np.testing.assert_array_equal(loud(IDS).logits, plain)


def torch_model(kind, params):
    """transformers' class for a kind, with the parameters of ours."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from bertjax.interop.names import NAMES

    classes = {
        "classification": transformers.BertForSequenceClassification,
        "multi_label": transformers.BertForSequenceClassification,
        "regression": transformers.BertForSequenceClassification,
        "tagging": transformers.BertForTokenClassification,
        "answering": transformers.BertForQuestionAnswering,
    }
    shared = {k: v for k, v in CONFIG.__dict__.items() if k not in ("attention", "scan_layers", "recompute")}
    theirs = classes[kind](transformers.BertConfig(**shared, num_labels=len(LABELS.get(kind, (0, 1))))).eval()
    tensors = {}
    for path, value in flatten_dict(params["bert"], sep="/").items():
        entry, value = NAMES[path], np.asarray(value)
        if path == "embeddings/word_embeddings":
            value = value[: CONFIG.vocab_size]
        layers = range(CONFIG.num_hidden_layers) if "{layer}" in entry.name else [None]
        for layer in layers:
            part = value if layer is None else value[layer]
            tensors[entry.name.format(layer=layer)] = part.T if entry.transposed else part
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
