"""Texts as words, for tags: where they begin and end, and the pieces of each."""

from __future__ import annotations

import functools
import string
import unicodedata
from collections.abc import Sequence

from bertjax.text.interface import Tokenizer
from bertjax.text.located import Offsets
from bertjax.text.scripts import BERT_CHINESE


def split_words(text: str) -> list[Offsets]:
    """The words of a text as (begin, end) in characters: as BERT splits it, at white space, and at punctuation and
    Chinese characters, which are words of their own.

    Marks belong to what is before them. Invisible characters (controls, joiners, soft hyphens) split nothing, stand
    at no end of a word, and are no word.
    """
    words: list[Offsets] = []
    begin, end, is_closed = -1, -1, False  # of the word at hand; closed: nothing but marks can join it
    for position, character in enumerate(text):
        kind = _kind(character)
        if kind == "invisible":
            continue
        if begin >= 0 and (kind in ("space", "alone") or (is_closed and kind != "mark")):
            words.append((begin, end))
            begin = -1
        if kind != "space":
            begin, is_closed = (position, kind == "alone") if begin < 0 else (begin, is_closed)
            end = position + 1
    return [*words, (begin, end)] if begin >= 0 else words


def encode_words(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """The pieces of each word, at least one: the unknown piece where cleaning leaves nothing of it."""
    distinct = list(dict.fromkeys(words))
    pieces = dict(zip(distinct, tokenizer.encode_batch(distinct), strict=True))
    return [pieces[word] or [tokenizer.unk_id] for word in words]


@functools.lru_cache(maxsize=1 << 16)
def _kind(character: str) -> str:
    if character.isspace():
        return "space"
    category, code = unicodedata.category(character)[0], ord(character)
    if category == "C":
        return "invisible"
    is_chinese = any(low <= code <= high for low, high in BERT_CHINESE)
    if category == "P" or character in string.punctuation or is_chinese:
        return "alone"
    return "mark" if category == "M" else "letter"
