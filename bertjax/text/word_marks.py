"""Where words begin, for whole-word masking.

Words are those of the tokenizer's pre-tokenizer. Where each piece tells by its own mark whether it begins a word ("##"
of WordPiece, "▁" of SentencePiece), ids are enough; else the library is asked when text is tokenised. On top of that,
characters of scripts whose words are not set apart - Chinese characters, Thai, Lao, Burmese, Khmer - are words of their
own: what lies between two spaces is a clause there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from bertjax.text.scripts import CHINESE

_OWN = (
    *CHINESE,
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0x1780, 0x17FF), (0x19E0, 0x19FF)),
)
# First bytes in UTF-8 of U+3000 to U+9FFF: of single bytes as pieces, those that begin a Chinese character.
_OWN_BYTES = range(0xE3, 0xEA)
_SPACE, _OWN_WORD = 1, 2


@dataclass(frozen=True)
class WordMarks:
    """What pieces tell, bool [V]: ``begins``: the piece is the first of a word; ``ends``: the piece after it is."""

    begins: np.ndarray
    ends: np.ndarray


def marks_of(pieces: Sequence[str], texts: Iterable[str], continues: np.ndarray) -> WordMarks:
    """``texts``: the pieces without their marks; ``continues`` bool [V]: by its mark a piece continues a word."""
    begins, ends = ~continues, np.zeros(len(pieces), bool)
    for i, (piece, text) in enumerate(zip(pieces, texts, strict=True)):
        if text and not text.isascii():
            begins[i] |= is_own_word(text[0])
            ends[i] = is_own_word(text[-1])
        elif len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            begins[i] |= piece[3:5] in _OWN_BYTE_NAMES
    return WordMarks(begins, ends)


_OWN_BYTE_NAMES = {f"{byte:02X}" for byte in _OWN_BYTES}


def is_own_word(character: str) -> bool:
    """Whether a character is a word of its own."""
    return any(low <= ord(character) <= high for low, high in _OWN)


def word_starts(texts: Sequence[str], encodings: Sequence[Any]) -> np.ndarray:
    """bool: which tokens of all texts, one text after the other, begin a word.

    encodings: what the library ``tokenizers`` made of the texts, with offsets. Without a pre-tokenizer that splits,
    words begin at white space.
    """
    counts = np.fromiter((len(found.ids) for found in encodings), np.int64, len(encodings))
    total = int(counts.sum())
    if not total:
        return np.zeros(0, bool)
    number = (-1 if word is None else word for found in encodings for word in found.word_ids)
    word = np.fromiter(number, np.int64, total)
    flat = chain.from_iterable(chain.from_iterable(found.offsets for found in encodings))
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    span = np.fromiter(flat, np.int64, 2 * total).reshape(total, 2)
    span += np.repeat(np.cumsum(sizes) - sizes, counts)[:, None]
    begin, end = span.T
    characters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    kind = np.append(_kinds()[characters], 0)
    starts = np.ones(total, bool)
    before = slice(None, -1)
    # Pieces of one character, such as its bytes, stay together.
    fresh = begin[1:] >= end[before]
    here, gap, last = kind[begin[1:]], kind[end[before]], kind[end[before] - 1]
    starts[1:] = (word[1:] != word[before]) | (word[1:] < 0)
    starts[1:] |= fresh & ((here != 0) | ((begin[1:] > end[before]) & (gap == _SPACE)))
    starts[1:] |= fresh & ((last == _OWN_WORD) | ((last == _SPACE) & (end[before] - begin[before] > 1)))
    starts[(np.cumsum(counts) - counts)[counts > 0]] = True
    return starts


@functools.cache
def _kinds() -> np.ndarray:
    """uint8 by code point: white space, a word of its own, or neither."""
    kinds = np.zeros(0x110000, np.uint8)
    kinds[[point for point in range(0x3001) if chr(point).isspace()]] = _SPACE
    for low, high in _OWN:
        kinds[low : high + 1] = _OWN_WORD
    return kinds
