"""The characters that a vocabulary holds, of those that a text has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

# SentencePiece's advice: of alphabets of thousands of letters the rarest are left out, one of 2,000 characters of text.
LARGE, COVERAGE = 300, 0.9995


def count_characters(texts: Iterable[str]) -> Counter[str]:
    """How often each character that is no white space occurs."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    for character in [character for character in counts if character.isspace()]:
        del counts[character]
    return counts


def alphabet(counts: Counter[str], coverage: float | None, has_bytes: bool) -> list[str]:
    """The characters of ``counts`` that a vocabulary holds, the most frequent first: the share ``coverage`` of all.

    ``coverage`` None: all, but ``COVERAGE`` of a large alphabet. ``has_bytes``: whether what is left out is spelled in
    bytes, and not unknown; then an alphabet of few letters with some foreign ones is large, too.
    """
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    if coverage is not None:
        return _covering(ranked, counts, coverage)
    most = _covering(ranked, counts, COVERAGE)
    return most if len(ranked if has_bytes else most) > LARGE else ranked


def _covering(ranked: list[str], counts: Counter[str], coverage: float) -> list[str]:
    missing = coverage * counts.total()
    for index, character in enumerate(ranked):
        missing -= counts[character]
        if missing <= 1e-6:
            return ranked[: index + 1]
    return ranked


def without(texts: list[str], characters: Iterable[str]) -> list[str]:
    """``texts`` with a space for each of ``characters``."""
    table = dict.fromkeys(map(ord, characters), " ")
    return [text.translate(table) for text in texts] if table else texts
