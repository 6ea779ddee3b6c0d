"""Folders that transformers wrote, read by ``load_model``; and what is written here, read again by both."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertjax.errors import ModelFileError
from bertjax.interop.models import load_model, save_model
from bertjax.interop.weights import to_tensors
from bertjax.model.bert import split_params
from bertjax.model.create import create_model

DIMENSIONS = {
    "vocab_size": 131,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 48,
}
HEAD_WARNING = "pooler|masked-LM head|next-sentence head"


def tensors_of(model):
    """float32 arrays under their Hugging Face names."""
    return to_tensors(split_params(model)[1], model.config)


def peer_tensors(peer):
    """The peer's parameters in float32 under the names that a BertForPreTraining has for them."""
    named = {name: parameter.detach().float().numpy() for name, parameter in peer.named_parameters()}
    bare = not any(name.startswith("bert.") for name in named)
    return {f"bert.{name}" if bare else name: value for name, value in named.items()}


def assert_equal_tensors(ours, theirs):
    assert set(theirs) <= set(ours)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


def change_tensors(folder, change):
    """Rewrites model.safetensors with ``change(dict of arrays)``."""
    file = folder / "model.safetensors"
    save_file({name: np.ascontiguousarray(value) for name, value in change(load_file(file)).items()}, file)


def change_config(folder, **changes):
    values = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(values))


def load_quietly(folder, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_model(folder, **arguments)


@pytest.fixture(scope="module")
def peer(new_peer):
    return new_peer()


@pytest.fixture
def folder(peer, tmp_path):
    """What ``BertForPreTraining.save_pretrained`` writes."""
    peer.save_pretrained(tmp_path / "peer")
    return tmp_path / "peer"


def refused(folder, *words, **arguments):
    """The one line with which ``load_model`` refuses the folder; it holds all ``words``."""
    with pytest.raises(ModelFileError) as error:
        load_model(folder, **arguments)
    line = str(error.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line
    return line


@pytest.mark.parametrize(
    ("kind", "arguments", "missing"),
    [
        ("BertForPreTraining", {}, []),
        ("BertForMaskedLM", {}, ["pooler", "next-sentence head"]),
        ("BertForNextSentencePrediction", {}, ["masked-LM head"]),
        ("BertModel", {}, ["masked-LM head", "next-sentence head"]),
        ("BertModel", {"add_pooling_layer": False}, ["pooler", "masked-LM head", "next-sentence head"]),
    ],
    ids=["pretraining", "masked-LM", "next sentence", "encoder", "encoder without pooler"],
)
def test_what_transformers_saves_of_each_kind(kind, arguments, missing, new_peer, tmp_path):
    peer = new_peer(kind, arguments)
    peer.save_pretrained(tmp_path / "peer")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load_model(tmp_path / "peer")
    assert_equal_tensors(tensors_of(model), peer_tensors(peer))
    assert len(caught) == (1 if missing else 0)
    for name in HEAD_WARNING.split("|"):
        assert (name in str(caught[0].message) if caught else False) == (name in missing)
    assert all(np.isfinite(tensor).all() for tensor in tensors_of(model).values())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encoder = load_model(tmp_path / "peer", for_pretraining=False)
    assert not encoder.heads
    assert [str(w.message).split(" has no ")[1].split(":")[0] for w in caught] == [n for n in missing if n == "pooler"]


def test_new_heads_come_from_the_seed(new_peer, tmp_path):
    new_peer("BertModel").save_pretrained(tmp_path / "peer")
    with pytest.warns(UserWarning, match=HEAD_WARNING):
        one, same, other = (tensors_of(load_model(tmp_path / "peer", seed=seed)) for seed in (1, 1, 2))
    name = "cls.predictions.transform.dense.weight"
    np.testing.assert_array_equal(one[name], same[name])
    assert np.abs(one[name] - other[name]).max() > 0.01
    assert 0.05 < one[name].std() < 0.12  # initializer_range of the folder's config


def test_sharded_folders(peer, tmp_path):
    peer.save_pretrained(tmp_path / "peer", max_shard_size="20KB")
    assert len(list((tmp_path / "peer").glob("*.safetensors"))) > 2
    assert_equal_tensors(tensors_of(load_quietly(tmp_path / "peer")), peer_tensors(peer))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtypes_are_read_to_the_bit(dtype, torch, new_peer, tmp_path):
    peer = new_peer().to(getattr(torch, dtype))
    peer.save_pretrained(tmp_path / "peer")
    model = load_quietly(tmp_path / "peer")
    assert {tensor.dtype for tensor in tensors_of(model).values()} == {np.dtype(np.float32)}
    assert_equal_tensors(tensors_of(model), peer_tensors(peer))
    # What was rounded once is not rounded again on its way out and in.
    save_model(model, tmp_path / "ours")
    assert_equal_tensors(tensors_of(load_quietly(tmp_path / "ours")), peer_tensors(peer))


def without_prefix(tensors):
    return {name.removeprefix("bert."): value for name, value in tensors.items()}


def old_layer_norm_names(tensors):
    new = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    rename = lambda name: next((name.replace(k, v) for k, v in new.items() if name.endswith(k)), name)
    return {rename(name): value for name, value in tensors.items()}


def with_buffers(tensors):
    numbers = np.arange(48, dtype=np.int64)[None]
    return tensors | {"bert.embeddings.position_ids": numbers, "bert.embeddings.token_type_ids": 0 * numbers}


def with_tied_copies(tensors):
    words, bias = tensors["bert.embeddings.word_embeddings.weight"], tensors["cls.predictions.bias"]
    return tensors | {"cls.predictions.decoder.weight": words.copy(), "cls.predictions.decoder.bias": bias.copy()}


def with_tied_copies_only(tensors):
    renamed = with_tied_copies(tensors)
    del renamed["bert.embeddings.word_embeddings.weight"], renamed["cls.predictions.bias"]
    return renamed


@pytest.mark.parametrize(
    "change", [without_prefix, old_layer_norm_names, with_buffers, with_tied_copies, with_tied_copies_only]
)
def test_older_and_other_spellings(change, peer, folder):
    change_tensors(folder, change)
    assert_equal_tensors(tensors_of(load_quietly(folder)), peer_tensors(peer))


LAST = "bert.encoder.layer.1.output.dense.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {n: v for n, v in t.items() if n != LAST}, ["lacks", LAST]),
        (lambda t: {n: v for n, v in t.items() if "layer.1." not in n}, ["1 encoder layers", "2"]),
        (lambda t: {n: v for n, v in t.items() if n != "cls.predictions.bias"}, ["lacks", "cls.predictions.bias"]),
        (lambda t: t | {"bert.extra.weight": np.ones(3)[:0].astype("f")}, ["unexpected", "bert.extra.weight"]),
        (lambda t: t | {"classifier.weight": np.ones((2, 24), "f")}, ["unexpected", "classifier.weight"]),
        (lambda t: t | {LAST: t[LAST].T}, [LAST, "[40, 24]", "[24, 40]"]),
        (lambda t: t | {LAST: t[LAST].astype(np.int32)}, [LAST, "integers"]),
        (lambda t: t | {LAST: t[LAST].astype(np.float64)}, [LAST, "F64"]),
        (lambda t: t | {LAST: np.full_like(t[LAST], np.nan)}, [LAST, "not finite"]),
        (
            lambda t: t | {"cls.predictions.decoder.weight": np.ones((131, 24), "f")},
            ["decoder.weight", "ties them"],
        ),
        (lambda t: t | {"cls.predictions.decoder.weight": np.ones((24, 131), "f")}, ["decoder.weight", "shape"]),
        (lambda t: t | {"cls.predictions.decoder.bias": np.ones(131, "f")}, ["decoder.bias", "ties them"]),
        (lambda t: t | without_prefix(t), ["one and the same"]),
    ],
    ids=[
        "missing",
        "missing layer",
        "half a head",
        "extra and empty",
        "other head",
        "transposed",
        "integers",
        "doubles",
        "not finite",
        "untied decoder",
        "misshaped decoder",
        "untied bias",
        "two spellings at once",
    ],
)
def test_tensors_that_are_not_those_of_the_config(change, words, folder):
    change_tensors(folder, change)
    refused(folder, *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": 130}, ["word_embeddings", "[131, 24]", "[130, 24]"]),
        ({"num_hidden_layers": 3}, ["2 encoder layers", "3"]),
        ({"num_attention_heads": 7}, ["num_attention_heads = 7", "divide", "24"]),
        ({"model_type": "roberta"}, ["model_type", "'roberta'", "'bert'"]),
        ({"position_embedding_type": "relative_key"}, ["position_embedding_type", "relative_key"]),
        ({"hidden_act": "silu"}, ["hidden_act", "silu"]),
        ({"is_decoder": True}, ["is_decoder"]),
        ({"tie_word_embeddings": False}, ["tie_word_embeddings"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_configs_of_something_else(changes, words, folder):
    change_config(folder, **changes)
    refused(folder, "config.json" if "encoder layers" not in words[0] and "word" not in words[0] else "", *words)


def test_pickled_weights_are_refused_with_the_line_that_converts(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    line = refused(folder, "pickled", "save_pretrained", str(folder))
    assert "from transformers import AutoModelForPreTraining" in line


def test_a_name_of_the_hub_says_how_to_get_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused("bert-base-uncased", "bert-base-uncased is not a model folder", "hf download", "create_model")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_half_a_folder(missing, folder):
    (folder / missing).unlink()
    refused(folder, f"no {missing}")


def test_import_export_import_is_bit_identical(folder, tmp_path):
    model = load_quietly(folder)
    save_model(model, tmp_path / "one")
    again = load_quietly(tmp_path / "one")
    save_model(again, tmp_path / "two")
    assert again.config == model.config
    assert_equal_tensors(tensors_of(again), tensors_of(model))
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()
    assert (tmp_path / "one/config.json").read_bytes() == (tmp_path / "two/config.json").read_bytes()


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("kind", ["AutoModelForPreTraining", "AutoModel"])
def test_transformers_loads_what_is_written(kind, hidden_act, torch, transformers, random, tmp_path):
    model = create_model(**DIMENSIONS, hidden_act=hidden_act, seed=4, for_pretraining=kind != "AutoModel")
    save_model(model, tmp_path / "ours")
    peer, report = getattr(transformers, kind).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = random.integers(0, 131, (3, 19))
    mask = (np.arange(19)[None, :] < np.array([[19], [7], [12]])).astype(int)
    ours = model(ids, attention_mask=mask)
    with torch.no_grad():
        theirs = peer.eval()(torch.tensor(ids), attention_mask=torch.tensor(mask))
    if kind == "AutoModel":
        pairs = [(ours.sequence_output, theirs.last_hidden_state), (ours.pooled_output, theirs.pooler_output)]
    else:
        pairs = [(ours.mlm_logits, theirs.prediction_logits), (ours.nsp_logits, theirs.seq_relationship_logits)]
    for one, other in pairs:
        np.testing.assert_allclose(one, other.numpy(), atol=1e-4, rtol=0)


def test_saving_replaces_a_model_folder(tmp_path):
    model = create_model(**DIMENSIONS)
    save_model(model, tmp_path / "model")
    (tmp_path / "model" / "vocab.txt").write_text("old")
    save_model(create_model(**DIMENSIONS, seed=9), tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    kept = ["config.json", "model.safetensors", "vocab.txt"]  # no tokenizer was given, so it stays
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == kept


def test_saving_over_something_else_is_refused_and_loses_nothing(tmp_path):
    model = create_model(**DIMENSIONS)
    other = tmp_path / "thesis"
    save_model(model, other)
    (other / "chapter1.tex").write_text("years of work")
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    with pytest.raises(ModelFileError, match=r"chapter1\.tex"):
        save_model(create_model(**DIMENSIONS, seed=9), other)
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before
    (tmp_path / "file").write_text("a file")
    (tmp_path / "link").symlink_to(other)
    for place in ("file", "link"):
        with pytest.raises(ModelFileError, match=place):
            save_model(model, tmp_path / place)
    assert (tmp_path / "file").read_text() == "a file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "thesis"]


def test_saving_what_is_not_finite_is_refused(tmp_path):
    model = create_model(**DIMENSIONS)
    model.mlm_head.bias[...] = model.mlm_head.bias[...].at[3].set(np.inf)
    with pytest.raises(ModelFileError, match=r"cls\.predictions\.bias"):
        save_model(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
