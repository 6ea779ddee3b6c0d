"""Configs and vocabularies that nobody vouches for, beside tensors that are whole."""

from __future__ import annotations

import json

import pytest

from bertjax.errors import ModelFileError
from bertjax.interop.huggingface import open_folder
from bertjax.interop.models import load_pair

CONFIGS = {
    **{f"{name} missing": ((name, None), ["lacks", name]) for name in ("vocab_size", "hidden_size", "hidden_act")},
    "negative": (("vocab_size", -9), ["vocab_size = -9", "too small"]),
    "zero": (("num_attention_heads", 0), ["num_attention_heads = 0", "too small"]),
    "fraction": (("hidden_size", 4.0), ["hidden_size", "int"]),
    "word": (("hidden_size", "4"), ["hidden_size", "int", "str"]),
    "truth value": (("num_hidden_layers", True), ["num_hidden_layers", "int", "bool"]),
    "null": (("intermediate_size", [None]), ["intermediate_size"]),
    "not a number": (("layer_norm_eps", float("nan")), ["layer_norm_eps", "finite"]),
    "infinite": (("initializer_range", float("inf")), ["initializer_range", "finite"]),
    "an integer beyond floats": (("layer_norm_eps", 10**400), ["layer_norm_eps"]),
    "an integer of 4,000 digits": (("vocab_size", 10**4000), ["vocab_size", "2**63"]),
    "a billion layers": (("num_hidden_layers", 10**9), ["num_hidden_layers", "too large"]),
    "as many layers as are allowed": (("num_hidden_layers", 2**16), ["1 encoder layers"]),
    "the largest vocabulary": (("vocab_size", 2**30), ["word_embeddings", "[9, 4]"]),
    "a vocabulary beyond that": (("vocab_size", 2**31 - 1), ["vocab_size = 2147483647", "too large"]),
    "a huge hidden size": (("hidden_size", 2**20), ["position_embeddings", "4]", "1048576"]),
    "as many positions as are allowed": (("max_position_embeddings", 2**24), ["position_embeddings"]),
    "a function for an activation": (("hidden_act", "__import__('os').abort()"), ["hidden_act"]),
    "an activation of half a megabyte": (("hidden_act", "gelu" * 125_000), ["hidden_act"]),
    "an activation with a line break": (("hidden_act", "gelu\n\x1b[2J"), ["hidden_act"]),
    "a list for an activation": (("hidden_act", ["gelu"]), ["hidden_act"]),
    "an object for a size": (("vocab_size", {"a": {"b": 1}}), ["vocab_size"]),
    "a list for a model type": (("model_type", [["bert"]] * 1000), ["model_type"]),
    "another model": (("model_type", "gpt2"), ["model_type", "gpt2"]),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configs(case, folder, refused):
    (name, value), words = CONFIGS[case]
    config = json.loads((folder / "config.json").read_text()) | {name: value}
    if value is None:
        del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, str(folder), *words)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "damaged JSON"),
        (b"{", "damaged JSON"),
        (b"null", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"{}", "lacks vocab_size"),
        (b"\xff\xfe{}", "damaged JSON"),
        (b'{"vocab_size": 9, "vocab_size": 9}', "twice"),
        (b'{"a": ' + b"[" * 200_000, "damaged JSON"),
        (b'{"a": "' + b"x" * (5 << 20) + b'"}', "larger than"),
    ],
    ids=["empty", "cut short", "null", "list", "no keys", "UTF-16", "twice", "deep", "large"],
)
def test_config_files(content, word, folder, refused):
    (folder / "config.json").write_bytes(content)
    refused(folder, "config.json", word)


@pytest.mark.parametrize("depth", range(900, 1000, 7))
def test_nesting_near_the_limit_of_the_interpreter(depth, folder, assert_one_line):
    """What can just be parsed must not fail when it is to be shown."""
    config = (folder / "config.json").read_text().rstrip()
    for name in ("hidden_act", "model_type", "unknown"):
        deep = config.rstrip("}") + f', "{name}": ' + "[" * depth + "]" * depth + "}"
        (folder / "config.json").write_text(deep.replace('"hidden_act": "gelu",', "") if name == "hidden_act" else deep)
        try:
            open_folder(folder)
        except ModelFileError as error:
            assert_one_line(error)


@pytest.mark.parametrize("count", [8, 10], ids=["shorter", "longer"])
def test_a_vocabulary_of_another_size_than_the_embeddings(count, folder, assert_one_line):
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "e"][:count]
    (folder / "vocab.txt").write_text("\n".join(entries) + "\n")
    with pytest.raises(ModelFileError, match=rf"{count} entries.* 9") as error:
        load_pair(folder, for_pretraining=True)
    assert_one_line(error.value)


def test_a_folder_without_a_tokenizer(folder, assert_one_line):
    with pytest.raises(ModelFileError, match="vocab") as error:
        load_pair(folder, for_pretraining=True)
    assert_one_line(error.value)
