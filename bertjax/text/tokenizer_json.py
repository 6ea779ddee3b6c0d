"""Reads a ``tokenizer.json`` of the library ``tokenizers``: BERT's own kind as WordPiece, any other as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertjax.errors import ConfigError
from bertjax.text.interface import Tokenizer, printable
from bertjax.text.json_tokenizer import JsonTokenizer
from bertjax.text.sentencepiece_json import ACCENTS
from bertjax.text.tokenizer_files import FolderSettings, in_order
from bertjax.text.wordpiece import WordPieceRules, WordPieceTokenizer, bert_normalizer

# Key of the file -> its type unless it is null, and what null means.
_NORMALIZER = {
    "clean_text": (bool, True),
    "handle_chinese_chars": (bool, True),
    "strip_accents": (bool, None),
    "lowercase": (bool, True),
}
_MODEL = {"unk_token": (str, "[UNK]"), "continuing_subword_prefix": (str, "##"), "max_input_chars_per_word": (int, 100)}


def tokenizer_from_json(definition: dict[str, Any], folder: FolderSettings, origin: str) -> Tokenizer:
    """The tokenizer of a parsed ``tokenizer.json``, with the special tokens and the cleaning that its folder says.

    Raises ConfigError if the file is damaged, or ids are missing or given twice.
    """
    added = _added_tokens(definition, origin)
    if not _is_bert(definition, added):
        return JsonTokenizer(definition, folder.names, origin)
    model = definition["model"]
    step, dotless_i = bert_normalizer(definition["normalizer"])
    rules = {**_values(step or {}, _NORMALIZER, origin), "dotless_i": dotless_i, **_values(model, _MODEL, origin)}
    if not 0 < rules["max_input_chars_per_word"] < 1 << 31:
        raise ConfigError(f"{origin} has max_input_chars_per_word = {rules['max_input_chars_per_word']}")
    if not folder.runs_json:
        rules |= folder.cleaning
    lowercase = rules.pop("lowercase")
    # The model says which piece stands for what is unknown; the folder names the other roles.
    names = {**folder.names, "unk": rules.pop("unk_token")}
    tokens = in_order(model["vocab"], origin)
    special = [model["vocab"][token] for token, entry in added.items() if entry.get("special") is True]
    return WordPieceTokenizer(tokens, lowercase, origin, WordPieceRules(**rules), names, special)


def json_cleaning(definition: dict[str, Any]) -> dict[str, bool | None]:
    """``lowercase``, ``strip_accents`` and ``dotless_i`` of the normalizer of a ``tokenizer.json``, or {}."""
    normalizer = definition.get("normalizer")
    if not isinstance(normalizer, dict):
        return {}
    steps = normalizer.get("normalizers")
    steps = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    types = [step.get("type") for step in steps]
    replaced = [step.get("pattern") for step in steps]
    return {
        "lowercase": "Lowercase" in types,
        "strip_accents": "StripAccents" in types or {"Regex": ACCENTS} in replaced,
        "dotless_i": {"Regex": "I"} in replaced,
    }


def _is_bert(definition: dict[str, Any], added: Mapping[str, dict[str, Any]]) -> bool:
    """Whether text is cleaned and split as by BERT, and only special tokens of the vocabulary are added."""
    model, splits = definition.get("model"), definition.get("pre_tokenizer")
    if bert_normalizer(definition.get("normalizer"))[0] is None or not isinstance(model, dict):
        return False
    kind = model.get("type")
    if kind is None and "max_input_chars_per_word" in model:
        kind = "WordPiece"  # old files do not name it
    if kind != "WordPiece" or not isinstance(splits, dict) or splits.get("type") != "BertPreTokenizer":
        return False
    vocab = model.get("vocab")
    return isinstance(vocab, dict) and all(entry.get("special") is True and t in vocab for t, entry in added.items())


def _added_tokens(definition: dict[str, Any], origin: str) -> dict[str, dict[str, Any]]:
    entries = definition.get("added_tokens") or []
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("content"), str) for entry in entries
    ):
        raise ConfigError(f"{origin} has added_tokens that are not a list of tokens")
    return {entry["content"]: entry for entry in entries}


def _values(part: dict[str, Any], keys: Mapping[str, tuple[type, Any]], origin: str) -> dict[str, Any]:
    values = {}
    for key, (kind, default) in keys.items():
        value = part.get(key)
        if value is not None and type(value) is not kind:
            raise ConfigError(f"{origin} has {key} = {printable(value)}; it should be of the type {kind.__name__}")
        values[key] = default if value is None else value
    return values
