"""Texts as words, for tagging: where the words stand, and the pieces of each."""

import functools
import string
import unicodedata
from collections.abc import Sequence

from bertjax.text.interface import Tokenizer
from bertjax.text.languages import BERT_CHINESE
from bertjax.text.offsets import Offsets


def split_words(text: str) -> list[Offsets]:
    """The words of a text as (begin, end) in characters. Like BERT, it splits at white space, punctuation and Chinese
    characters; each punctuation mark and Chinese character is a word. Combining marks belong to the character before
    them. Invisible characters (controls, joiners, soft hyphens) do not split, are never the first or last character of
    a word, and are not words."""
    words: list[Offsets] = []
    begin, end, is_single = -1, -1, False  # of the current word; single: only combining marks can extend it
    for position, character in enumerate(text):
        kind = _kind(character)
        if kind == "invisible":
            continue
        if begin >= 0 and (kind in ("space", "single") or (is_single and kind != "mark")):
            words.append((begin, end))
            begin = -1
        if kind != "space":
            begin, is_single = (position, kind == "single") if begin < 0 else (begin, is_single)
            end = position + 1
    return [*words, (begin, end)] if begin >= 0 else words


def encode_words(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """The pieces of each word, at least one: the unknown token if cleaning removes the whole word."""
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
        return "single"
    return "mark" if category == "M" else "letter"
