"""Offsets of tokens in the caller's text, whatever cleaning lies between."""

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Offsets = tuple[int, int]  # (begin, end) in characters: text[begin:end]

_QUOTES = re.compile("``|''|.", re.DOTALL)


class EncodedText(NamedTuple):
    """ids of a text without special tokens, and the offsets of each. Offsets are in order and include no white space at
    the ends. They are empty only if the text has nothing but white space; pieces of one character share its offsets. A
    letter's token covers its marks even if cleaning strips them."""

    ids: list[int]
    offsets: list[Offsets]


def encoded_text(text: str, ids: Sequence[int], spans: Iterable[Offsets]) -> EncodedText:
    spans = [_without_space(text, *span) for span in spans]
    if not text.isascii():
        spans = _with_marks(text, spans)
    # A token without text, such as a space mark, stands where the next one begins; the last ones, where one ended.
    full = lambda kept, span: span if span[1] > span[0] else kept
    filled = list(itertools.accumulate(reversed(spans), full, initial=(len(text), len(text))))[:0:-1]
    return EncodedText(list(ids), list(itertools.accumulate(filled, full, initial=(0, 0)))[1:])


def _without_space(text: str, begin: int, end: int) -> Offsets:
    part = text[begin:end]
    return (end - len(part.lstrip()), begin + len(part.rstrip())) if part.strip() else (end, end)


def _with_marks(text: str, spans: list[Offsets]) -> list[Offsets]:
    """Extends each span over the combining marks after it, unless another span covers them."""
    covered = {position for begin, end in spans for position in range(begin, end)}
    extended = []
    for begin, end in spans:
        while begin < end < len(text) and end not in covered and unicodedata.category(text[end])[0] == "M":
            end += 1
        extended.append((begin, end))
    return extended


def align(text: str, prepare: Callable[[str], str]) -> tuple[str, list[Offsets]]:
    """``prepare(text)``, and the offsets in ``text`` of what each of its characters was made from. ``prepare`` may
    change quotes, case, composition and accents: what becomes of a letter with its marks must not depend on its
    neighbours, except for its form (a final sigma)."""
    prepared = prepare(text)
    if prepared == text or (text.isascii() and len(prepared) == len(text)):
        return prepared, [(position, position + 1) for position in range(len(text))]
    origins: list[Offsets] = []
    for begin, end in _letters(text):
        origins += [(begin, end)] * len(prepare(text[begin:end]))
    # Should a letter depend on its neighbours after all, whatever is missing gets the offsets of the last character.
    last = (max(len(text) - 1, 0), len(text))
    return prepared, (origins + [last] * len(prepared))[: len(prepared)]


def _letters(text: str) -> Iterable[Offsets]:
    """The offsets of characters with what composes with them: marks, second halves of Hangul syllables, quotes."""
    begin = 0
    for match in _QUOTES.finditer(text):
        at = match.start()
        is_part = unicodedata.category(text[at])[0] == "M" or 0x1160 <= ord(text[at]) <= 0x11FF
        if at > begin and not is_part:
            yield begin, at
            begin = at
    if text:
        yield begin, len(text)
