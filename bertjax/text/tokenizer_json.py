"""A ``tokenizer.json`` of the library ``tokenizers``, read: BERT's own kind as WordPiece, any other as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertjax.config import ConfigError
from bertjax.text.interface import Tokenizer, printable
from bertjax.text.json_tokenizer import JsonTokenizer
from bertjax.text.sentencepiece_json import MARKS
from bertjax.text.tokenizer_files import FolderSettings
from bertjax.text.wordpiece import WordPieceRules, WordPieceTokenizer, normalizer_of_bert

# Keys of the file, with the type that they must have where they are not null, and what null stands for.
_NORMALIZER = {
    "clean_text": (bool, True),
    "handle_chinese_chars": (bool, True),
    "strip_accents": (bool, None),
    "lowercase": (bool, True),
}
_MODEL = {"unk_token": (str, "[UNK]"), "continuing_subword_prefix": (str, "##"), "max_input_chars_per_word": (int, 100)}
_MOST_CHARACTERS = 1 << 31


def tokenizer_from_json(definition: dict[str, Any], folder: FolderSettings, origin: str) -> Tokenizer:
    """The tokenizer of a parsed ``tokenizer.json``, with the special tokens and the cleaning that its folder says.

    Raises ConfigError where the file is damaged or ids are missing or given twice.
    """
    added = _added_tokens(definition, origin)
    if not _is_bert(definition, added):
        return JsonTokenizer(definition, folder.names, origin)
    model = definition["model"]
    step, dotless_i = normalizer_of_bert(definition["normalizer"])
    normalizer = _values(step or {}, _NORMALIZER, origin) | {"dotless_i": dotless_i}
    settings = _values(model, _MODEL, origin)
    if not 0 < settings["max_input_chars_per_word"] < _MOST_CHARACTERS:
        raise ConfigError(f"{origin} has max_input_chars_per_word = {settings['max_input_chars_per_word']}")
    if not folder.takes_json:
        normalizer |= folder.cleaning
    lowercase = normalizer.pop("lowercase")
    # The model says which piece stands for what is unknown; the folder's word counts for the other roles.
    names = {**folder.names, "unk": settings.pop("unk_token")}
    tokens = _in_order(model["vocab"], origin)
    special = [model["vocab"][token] for token, entry in added.items() if entry.get("special") is True]
    return WordPieceTokenizer(tokens, lowercase, origin, WordPieceRules(**normalizer, **settings), names, special)


def json_cleaning(definition: dict[str, Any]) -> dict[str, bool | None]:
    """``lowercase``, ``strip_accents`` and ``dotless_i`` of the normalizer of a ``tokenizer.json``; {} where it has
    none."""
    normalizer = definition.get("normalizer")
    if not isinstance(normalizer, dict):
        return {}
    steps = normalizer.get("normalizers")
    steps = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    types = [step.get("type") for step in steps]
    replaces = lambda pattern: any(step.get("pattern") == pattern for step in steps)
    return {
        "lowercase": "Lowercase" in types,
        "strip_accents": "StripAccents" in types or replaces({"Regex": MARKS}),
        "dotless_i": replaces({"Regex": "I"}),
    }


def _is_bert(definition: dict[str, Any], added: Mapping[str, dict[str, Any]]) -> bool:
    """Whether the text is cleaned and split as BERT does and all that is added are special tokens of the vocabulary."""
    parts = [definition.get("model"), normalizer_of_bert(definition.get("normalizer"))[0]]
    parts.append(definition.get("pre_tokenizer"))
    types = [part.get("type") if isinstance(part, dict) else None for part in parts]
    model = parts[0]
    if isinstance(model, dict) and types[0] is None and "max_input_chars_per_word" in model:
        types[0] = "WordPiece"  # files of old do not name it
    if types != ["WordPiece", "BertNormalizer", "BertPreTokenizer"]:
        return False
    vocab = definition["model"].get("vocab")
    return isinstance(vocab, dict) and all(entry.get("special") is True and t in vocab for t, entry in added.items())


def _added_tokens(definition: dict[str, Any], origin: str) -> dict[str, dict[str, Any]]:
    entries = definition.get("added_tokens") or []
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("content"), str) for entry in entries
    ):
        raise ConfigError(f"{origin} has added_tokens that are no list of tokens")
    return {entry["content"]: entry for entry in entries}


def _values(part: dict[str, Any], keys: Mapping[str, tuple[type, Any]], origin: str) -> dict[str, Any]:
    values = {}
    for key, (kind, default) in keys.items():
        value = part.get(key)
        if value is not None and type(value) is not kind:
            raise ConfigError(f"{origin} has {key} = {printable(value)}, which is no {kind.__name__}")
        values[key] = default if value is None else value
    return values


def _in_order(vocab: dict[str, Any], origin: str) -> list[str]:
    """The pieces in the order of their ids, which must be 0, 1, 2 ..."""
    tokens: list[str | None] = [None] * len(vocab)
    for token, number in vocab.items():
        if type(number) is not int or not 0 <= number < len(tokens) or tokens[number] is not None:
            raise ConfigError(
                f"{origin} gives {printable(token)!r} the id {printable(number)}; "
                f"its {len(tokens)} pieces need the ids 0 to {len(tokens) - 1}, each once"
            )
        tokens[number] = token
    return [token for token in tokens if token is not None]
