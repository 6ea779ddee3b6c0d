"""Where words begin, for whole-word masking.

Words are those of the tokenizer's pre-tokenizer. If every piece shows by a mark whether it begins a word ("##" of
WordPiece, "▁" of SentencePiece), the ids are enough; else the library tells when text is tokenised. In addition, each
character of a script that does not put spaces between words - Chinese characters, Thai, Lao, Burmese, Khmer - counts as
a word, since there a clause stands between two spaces.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from bertjax.text.languages import CHINESE

_SINGLE_WORDS = (
    *CHINESE,
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0x1780, 0x17FF), (0x19E0, 0x19FF)),
)
# First bytes in UTF-8 of U+3000 to U+9FFF, as pieces of SentencePiece: they begin a Chinese character.
_FIRST_BYTES = {f"<0x{byte:02X}>" for byte in range(0xE3, 0xEA)}
_SPACE, _SINGLE = 1, 2


@dataclass(frozen=True)
class WordBoundaries:
    """What pieces show, bool [V]. begins: the piece is the first of a word. ends: the next piece is."""

    begins: np.ndarray
    ends: np.ndarray


def is_word_mark(prefix: str) -> bool:
    """Whether a prefix of continuing pieces, after BERT's pre-tokenizer, begins no word: that splits off punctuation,
    so no word begins with two punctuation marks."""
    return len(prefix) > 1 and prefix.isascii() and not any(map(str.isalnum, prefix))


def boundaries_of(pieces: Sequence[str], unmarked: Callable[[str], str], continues: np.ndarray) -> WordBoundaries:
    """``unmarked``: a piece without its mark. ``continues`` bool [V]: whether the mark says that a piece continues a
    word."""
    begins, ends, kinds = ~continues, np.zeros(len(pieces), bool), _kinds()
    for i, piece in enumerate(pieces):
        text = unmarked(piece)
        if text and not text.isascii():
            begins[i] |= kinds[ord(text[0])] == _SINGLE
            ends[i] = kinds[ord(text[-1])] == _SINGLE
        elif piece in _FIRST_BYTES:
            begins[i] = True
    return WordBoundaries(begins, ends)


def word_starts(texts: Sequence[str], encodings: Sequence[Any]) -> np.ndarray:
    """bool [tokens of all texts]: whether a token begins a word. encodings: what the library ``tokenizers`` made of the
    texts, with offsets. If its pre-tokenizer does not split, words begin at white space."""
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
    starts[1:] |= fresh & ((last == _SINGLE) | ((last == _SPACE) & (end[before] - begin[before] > 1)))
    starts[(np.cumsum(counts) - counts)[counts > 0]] = True
    return starts


@functools.cache
def _kinds() -> np.ndarray:
    """uint8 by code point: white space, a word by itself, or neither."""
    kinds = np.zeros(0x110000, np.uint8)
    kinds[[point for point in range(0x3001) if chr(point).isspace()]] = _SPACE
    for low, high in _SINGLE_WORDS:
        kinds[low : high + 1] = _SINGLE
    return kinds
