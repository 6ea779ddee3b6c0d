"""A tokenizer that is whatever its ``tokenizer.json`` says: unigram, BPE, bytes (library ``tokenizers``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.config import ConfigError
from bertjax.text.growth import check_growth
from bertjax.text.interface import UNUSED, Tokenizer, fingerprint, guarded, printable, special_ids
from bertjax.text.located import Located, located
from bertjax.text.post_processor import trained_template, with_template
from bertjax.text.tokenizer_files import write_json, write_transformers_config
from bertjax.text.word_marks import WordMarks, marks_of, word_starts

# How the first piece of a word begins: SentencePiece's mark, and the space of byte-level BPE.
_WORD_MARKS = ("\u2581", "\u0120")
# The parts of the file that decide the ids of a text, without special tokens.
_OF_IDS = ("model", "normalizer", "pre_tokenizer", "added_tokens")
_MARK = "\uffff"  # no character, and so in no text
_TRIAL = ("", " ", "A trial, of 3.14: `` né'' \u1e69 \u5b57 \U0001f642 \u200d \x07 x")


class JsonTokenizer(Tokenizer):
    """The library's own tokenizer, without truncation, padding and random choices, and with the template of training
    for whatever its file puts around texts."""

    kind = "tokenizers"

    def __init__(self, definition: Mapping[str, Any], names: Mapping[str, str], origin: str = "tokenizer.json") -> None:
        """``definition``: the parsed file; ``names`` of special tokens by role. Raises ConfigError."""
        import tokenizers

        self._definition = {**definition, "truncation": None, "padding": None}
        model = self._definition.get("model")
        if not isinstance(model, dict):
            raise ConfigError(f"{origin} is no tokenizer of the library tokenizers: it has no model")
        if model.get("dropout") is not None:  # splits words at random: for training that does it anew each time
            self._definition["model"] = {**model, "dropout": None}
        longest = model.get("max_input_chars_per_word")
        self.longest_word = longest if isinstance(longest, int) else None
        self._origin = origin
        check_growth(self._definition, origin)
        guarded(lambda: tokenizers.Tokenizer.from_str(_written(self._definition)), origin)
        unspoken, self._names = guarded(lambda: _unspoken(self._definition), origin)
        self._library = guarded(lambda: tokenizers.Tokenizer.from_str(_written(unspoken)), origin)
        vocab: dict[str, int] = guarded(self._library.get_vocab, origin)
        self._ids = {self._names.get(token, token): i for token, i in vocab.items()}
        self._tokens = sorted(self._ids, key=lambda token: self._ids[token])
        self.vocab_size = len(self._tokens)
        added = self._definition.get("added_tokens") or []
        for expected, token in [*enumerate(self._tokens), *((entry.get("id"), entry["content"]) for entry in added)]:
            if self._ids.get(token) != expected:
                raise ConfigError(
                    f"{origin} gives {printable(token)!r} the id {printable(expected)} or {self._ids.get(token)}; "
                    f"its {self.vocab_size} pieces need the ids 0 to {self.vocab_size - 1}, each once"
                )
        special = (self._ids[entry["content"]] for entry in added if entry.get("special"))
        unused = (i for i, token in enumerate(self._tokens) if UNUSED.match(token))
        self._set_specials(special_ids(self._ids, names), {*special, *unused}, origin, names)
        self.encode_batch(_TRIAL)
        normalizer = self._library.normalizer
        self.lowercase = (
            normalizer is not None and guarded(lambda: normalizer.normalize_str("A"), origin).strip() == "a"
        )
        cls, sep = ((self.token(number), number) for number in (self.cls_id, self.sep_id))
        template = with_template(self._definition.get("post_processor"), trained_template(cls, sep))
        self._definition["post_processor"] = template
        guarded(lambda: tokenizers.Tokenizer.from_str(_written(self._definition)), origin)
        of_ids = {key: self._definition.get(key) for key in _OF_IDS}
        of_all = of_ids | {key: self._definition.get(key) for key in ("post_processor", "decoder")}
        names_by_role = _written(self.special_tokens())
        self.fingerprint = fingerprint("tokenizers, whole", _written(of_all), names_by_role)
        self.former_fingerprint = fingerprint("tokenizers", _written(of_ids), names_by_role)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = guarded(
            lambda: self._library.encode_batch_fast(list(texts), add_special_tokens=False), self._origin
        )
        return [encoding.ids for encoding in encodings]

    def locate_batch(self, texts: Sequence[str]) -> list[Located]:
        encodings = guarded(lambda: self._library.encode_batch(list(texts), add_special_tokens=False), self._origin)
        return [located(text, found.ids, found.offsets) for text, found in zip(texts, encodings, strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        numbers = [int(i) for i in ids]
        text = guarded(lambda: self._library.decode(numbers, skip_special_tokens=False), self._origin)
        return re.sub(f"{_MARK}.*?{_MARK}", lambda match: self._names.get(match[0], match[0]), text)

    def token(self, token_id: int) -> str:
        return self._tokens[token_id]

    def token_id(self, token: str) -> int | None:
        return self._ids.get(token)

    def continues_word(self) -> np.ndarray:
        prefix = self._definition["model"].get("continuing_subword_prefix")
        marks = [mark for mark in _WORD_MARKS if any(token.startswith(mark) for token in self._tokens)][:1]
        if prefix:
            continues = np.array([token.startswith(prefix) for token in self._tokens])
        else:  # without marks every piece is a word
            continues = np.array([bool(marks) and not token.startswith(marks[0]) for token in self._tokens])
        continues[list(self.special_ids)] = False
        return continues

    def word_marks(self) -> WordMarks | None:
        mark = _told_by_pieces(self._definition)
        if mark is None:
            return None
        continues = self.continues_word()
        # Added tokens are found in text before anything else, and are words whatever they look like.
        added = [entry["id"] for entry in self._definition.get("added_tokens") or []]
        continues[added] = False
        marks = marks_of(self._tokens, (token.replace(mark, "") for token in self._tokens), continues)
        marks.ends[added] = True
        return marks

    def encode_words(self, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        encodings = guarded(lambda: self._library.encode_batch(list(texts), add_special_tokens=False), self._origin)
        return [encoding.ids for encoding in encodings], word_starts(texts, encodings)

    def save(self, directory: str | Path) -> None:
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "tokenizer.json", self._definition)
        write_transformers_config(directory, self, tokenizer_class="PreTrainedTokenizerFast")


def _told_by_pieces(definition: Mapping[str, Any]) -> str | None:
    """The mark by which every piece tells whether it begins a word of the pre-tokenizer; None where it may not.

    BERT's sets punctuation apart, so that no word begins with two signs of it; a word of ``Metaspace`` is what stands
    from one mark to the next.
    """
    splits, prefix = definition.get("pre_tokenizer") or {}, definition["model"].get("continuing_subword_prefix") or ""
    if definition["model"].get("type") == "WordPiece" and splits.get("type") == "BertPreTokenizer":
        return prefix if len(prefix) > 1 and prefix.isascii() and not any(map(str.isalnum, prefix)) else None
    if splits.get("type") == "Metaspace" and splits.get("split", True) and not prefix:
        return _WORD_MARKS[0] if splits.get("replacement", _WORD_MARKS[0]) == _WORD_MARKS[0] else None
    return None


def _unspoken(definition: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """``definition`` with other names for its special tokens, and what the names stand for.

    Text that merely mentions "[SEP]" must not end an example. The library can leave special tokens in text alone,
    but a unigram model finds them among its pieces all the same.
    """
    special = [entry["content"] for entry in definition.get("added_tokens") or [] if entry.get("special") is True]
    names = {token: f"{_MARK}{i}{_MARK}" for i, token in enumerate(special)}
    model = dict(definition["model"])
    names.pop(model.get("unk_token"), None)  # the model knows it by its name
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {names.get(piece, piece): number for piece, number in vocab.items()}
    else:
        model["vocab"] = [(names.get(piece, piece), score) for piece, score in vocab]
    added = [
        {**entry, "content": names.get(entry["content"], entry["content"])}
        for entry in definition.get("added_tokens") or []
    ]
    renamed = {**definition, "model": model, "added_tokens": added, "post_processor": None}
    return renamed, {name: token for token, name in names.items()}


def _written(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
