"""Where in the caller's text the tokens stand: spans of characters, whatever cleaning lies between."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Offsets = tuple[int, int]

_QUOTES = re.compile("``|''|.", re.DOTALL)


class Located(NamedTuple):
    """ids of a text, without special tokens, and for each (begin, end): it stands for text[begin:end].

    Spans hold no white space at their ends, and are never empty where the text has anything else; pieces of one
    character share it. They are in order. Marks on a letter belong to its token even where cleaning strips them.
    """

    ids: list[int]
    spans: list[Offsets]


def located(text: str, ids: Sequence[int], spans: Iterable[Offsets]) -> Located:
    """``spans`` as a library gives them, made what ``Located`` says."""
    spans = [_without_space(text, begin, end) for begin, end in spans]
    if not text.isascii():
        spans = _with_marks(text, spans)
    following = (len(text), len(text))
    filled: list[Offsets] = []
    for begin, end in reversed(spans):  # an empty one, as of a mark of space, is the next one's beginning
        following = (begin, end) if end > begin else following
        filled.append(following)
    filled.reverse()
    before = (0, 0)
    for index, (begin, end) in enumerate(filled):
        before = filled[index] = (begin, end) if end > begin else before
    return Located(list(ids), filled)


def _without_space(text: str, begin: int, end: int) -> Offsets:
    while begin < end and text[begin].isspace():
        begin += 1
    while end > begin and text[end - 1].isspace():
        end -= 1
    return begin, end


def _with_marks(text: str, spans: list[Offsets]) -> list[Offsets]:
    """Spans that go on over the combining marks after them that no other span holds."""
    covered = {position for begin, end in spans for position in range(begin, end)}
    extended = []
    for begin, end in spans:
        while begin < end < len(text) and end not in covered and unicodedata.category(text[end])[0] == "M":
            end += 1
        extended.append((begin, end))
    return extended


def aligned(text: str, prepare: Callable[[str], str]) -> tuple[str, list[Offsets]]:
    """``prepare(text)``, and for each of its characters the (begin, end) in ``text`` of what it was made of.

    ``prepare`` may change quotes, case, composition and accents: what a letter with its marks becomes depends on
    nothing around it but for its form (a final sigma).
    """
    prepared = prepare(text)
    if prepared == text or (text.isascii() and len(prepared) == len(text)):
        return prepared, [(position, position + 1) for position in range(len(text))]
    origins: list[Offsets] = []
    for begin, end in _letters(text):
        origins += [(begin, end)] * len(prepare(text[begin:end]))
    # Should a letter have become something else among its neighbours after all, the rest has the last one's place.
    last = (max(len(text) - 1, 0), len(text))
    return prepared, (origins + [last] * len(prepared))[: len(prepared)]


def _letters(text: str) -> Iterable[Offsets]:
    """The spans of characters with what composes with them: marks, the second halves of Hangul syllables, quotes."""
    begin = 0
    for match in _QUOTES.finditer(text):
        at = match.start()
        is_part = unicodedata.category(text[at])[0] == "M" or 0x1160 <= ord(text[at]) <= 0x11FF
        if at > begin and not is_part:
            yield begin, at
            begin = at
    if text:
        yield begin, len(text)
