"""Reads a ``tokenizer.json`` of the library ``tokenizers``: BERT's own kind as WordPiece; any other (unigram, BPE,
byte-level BPE ...) is run as its file says."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.errors import ConfigError
from bertjax.text.growth import check_growth
from bertjax.text.interface import Tokenizer, fingerprint, printable
from bertjax.text.library_tokenizer import LibraryTokenizer, guarded, template
from bertjax.text.tokenizer_files import FolderSettings, in_order, write_files
from bertjax.text.word_boundaries import WordBoundaries, boundaries_of, is_word_mark
from bertjax.text.wordpiece import WordPieceRules, WordPieceTokenizer, bert_normalizer

# How the first piece of a word begins: SentencePiece's mark, and the space of byte-level BPE.
_WORD_MARKS = ("\u2581", "\u0120")
# The parts of the file that decide the ids of a text, without special tokens.
_ID_PARTS = ("model", "normalizer", "pre_tokenizer", "added_tokens")
_NONCHARACTER = "\uffff"  # in no text
_TRIAL = ("", " ", "A trial, of 3.14: `` né'' \u1e69 \u5b57 \U0001f642 \u200d \x07 x")
# Key of BERT's normalizer or model -> its type unless it is null, and what null means.
_BERT_KEYS = {
    "clean_text": (bool, True),
    "handle_chinese_chars": (bool, True),
    "strip_accents": (bool, None),
    "lowercase": (bool, True),
    "unk_token": (str, "[UNK]"),
    "continuing_subword_prefix": (str, "##"),
    "max_input_chars_per_word": (int, 100),
}


def tokenizer_from_json(definition: dict[str, Any], folder: FolderSettings, origin: str) -> Tokenizer:
    """The tokenizer of a parsed ``tokenizer.json``, with the special tokens and the cleaning that its folder says.
    Raises ConfigError if the file is damaged, or ids are missing or given twice."""
    added = _added_tokens(definition, origin)
    if not _is_bert(definition, added):
        return JsonTokenizer(definition, folder.names, origin)
    model = definition["model"]
    step, dotless_i = bert_normalizer(definition["normalizer"])
    given, rules = {**(step or {}), **model}, dict[str, Any](dotless_i=dotless_i)
    for key, (kind, default) in _BERT_KEYS.items():
        value = given.get(key)
        if value is not None and type(value) is not kind:
            raise ConfigError(f"{origin} has {key} = {printable(value)}; it should be of the type {kind.__name__}")
        rules[key] = default if value is None else value
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


class JsonTokenizer(LibraryTokenizer):
    """The library's own tokenizer without truncation, padding and dropout; special tokens are put around texts as in
    training, whatever the file says."""

    kind = "tokenizers"

    def __init__(self, definition: Mapping[str, Any], names: Mapping[str, str], origin: str = "tokenizer.json") -> None:
        """``definition``: the parsed file; ``names`` of special tokens by role. Raises ConfigError."""
        self._definition = {**definition, "truncation": None, "padding": None}
        self._origin = origin
        model = self._definition.get("model")
        if not isinstance(model, dict):
            raise ConfigError(f"{origin} is not a valid tokenizer: it has no model")
        if model.get("dropout") is not None:  # BPE dropout is for training with new splits every time
            self._definition["model"] = {**model, "dropout": None}
        longest = model.get("max_input_chars_per_word")
        self.longest_word = longest if isinstance(longest, int) else None
        check_growth(self._definition, origin)
        self._parsed(self._definition)
        hidden, self._names = guarded(origin, _with_hidden_names, self._definition)
        self._library = self._parsed(hidden)
        vocab: dict[str, int] = guarded(origin, self._library.get_vocab)
        ids = {self._names.get(token, token): i for token, i in vocab.items()}
        tokens = in_order(ids, origin)
        self._added: list[dict[str, Any]] = self._definition.get("added_tokens") or []
        for content, wanted in ((entry["content"], entry["id"]) for entry in self._added):
            if ids.get(content) != wanted:
                other = ids.get(content)
                raise ConfigError(f"{origin} gives {printable(content)!r} the ids {printable(wanted)} and {other}")
        self._set_vocabulary(tokens, names, (entry["id"] for entry in self._added if entry.get("special")), origin)
        self.encode_batch(_TRIAL)
        normalizer = self._library.normalizer
        self.lowercase = normalizer is not None and guarded(origin, normalizer.normalize_str, "A").strip() == "a"
        self._definition["post_processor"] = template(self, self._definition.get("post_processor"))
        self._parsed(self._definition)
        deciding = {key: self._definition.get(key) for key in _ID_PARTS}
        everything = deciding | {key: self._definition.get(key) for key in ("post_processor", "decoder")}
        roles = _written(self.special_tokens())
        self.fingerprint = fingerprint("tokenizers, whole", _written(everything), roles)
        self.former_fingerprint = fingerprint("tokenizers", _written(deciding), roles)

    def decode(self, ids: Sequence[int]) -> str:
        hidden = f"{_NONCHARACTER}.*?{_NONCHARACTER}"
        return re.sub(hidden, lambda match: self._names.get(match[0], match[0]), super().decode(ids))

    def _parsed(self, definition: Mapping[str, Any]) -> Any:
        import tokenizers

        return guarded(self._origin, lambda: tokenizers.Tokenizer.from_str(_written(definition)))

    def continues_word(self) -> np.ndarray:
        prefix = self._definition["model"].get("continuing_subword_prefix")
        marks = [mark for mark in _WORD_MARKS if any(token.startswith(mark) for token in self._tokens)][:1]
        is_inside = lambda token: token.startswith(prefix) if prefix else bool(marks) and not token.startswith(marks[0])
        continues = np.array([is_inside(token) for token in self._tokens])  # without marks every piece is a word
        continues[list(self.special_ids)] = False
        return continues

    def word_boundaries(self) -> WordBoundaries | None:
        mark = _word_mark(self._definition)
        if mark is None:
            return None
        continues = self.continues_word()
        # Added tokens are found in text before anything else, so each is a word whatever it looks like.
        added = [entry["id"] for entry in self._added]
        continues[added] = False
        marks = boundaries_of(self._tokens, lambda token: token.replace(mark, ""), continues)
        marks.ends[added] = True
        return marks

    def save(self, directory: str | Path) -> None:
        write_files(directory, self, self._definition, tokenizer_class="PreTrainedTokenizerFast")


def _word_mark(definition: Mapping[str, Any]) -> str | None:
    """The mark by which every piece shows whether it begins a word of the pre-tokenizer; None if it may not. A word of
    ``Metaspace`` extends from one mark to the next."""
    splits, prefix = definition.get("pre_tokenizer") or {}, definition["model"].get("continuing_subword_prefix") or ""
    if definition["model"].get("type") == "WordPiece" and splits.get("type") == "BertPreTokenizer":
        return prefix if is_word_mark(prefix) else None
    if splits.get("type") == "Metaspace" and splits.get("split", True) and not prefix:
        return _WORD_MARKS[0] if splits.get("replacement", _WORD_MARKS[0]) == _WORD_MARKS[0] else None
    return None


def _with_hidden_names(definition: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """``definition`` with special tokens renamed to what no text contains, and new name -> name. Text that merely
    mentions "[SEP]" must not end an example. The library can be told not to look for special tokens in text, but a
    unigram model finds them among its pieces all the same."""
    added = definition.get("added_tokens") or []
    special = [entry["content"] for entry in added if entry.get("special") is True]
    hidden = {token: f"{_NONCHARACTER}{i}{_NONCHARACTER}" for i, token in enumerate(special)}
    model = dict(definition["model"])
    hidden.pop(model.get("unk_token"), None)  # the model knows it by its name
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {hidden.get(piece, piece): number for piece, number in vocab.items()}
    else:
        model["vocab"] = [(hidden.get(piece, piece), score) for piece, score in vocab]
    added = [{**entry, "content": hidden.get(entry["content"], entry["content"])} for entry in added]
    renamed = {**definition, "model": model, "added_tokens": added, "post_processor": None}
    return renamed, {name: token for token, name in hidden.items()}


def _written(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


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
    is_token = lambda entry: isinstance(entry, dict) and isinstance(entry.get("content"), str)
    if not isinstance(entries, list) or not all(map(is_token, entries)):
        raise ConfigError(f"{origin} has added_tokens that are not a list of tokens")
    return {entry["content"]: entry for entry in entries}
