"""Which characters of a text a vocabulary learned from it contains."""

from collections import Counter
from collections.abc import Iterable

# SentencePiece's advice: a large alphabet, of thousands of letters, omits the rarest, one in 2,000 characters of text.
LARGE, COVERAGE = 300, 0.9995


def count_characters(texts: Iterable[str]) -> Counter[str]:
    """How often each character other than white space occurs."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return Counter({character: count for character, count in counts.items() if not character.isspace()})


def alphabet(counts: Counter[str], coverage: float | None, has_bytes: bool) -> list[str]:
    """The most frequent characters of ``counts``, in that order, that make up the share ``coverage`` of the text.

    ``coverage`` None: all, but ``COVERAGE`` for a large alphabet. ``has_bytes``: whether other characters are spelled
    in bytes rather than unknown; then an alphabet is large even if it is so only by rare foreign characters.
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
    """``texts`` with each of ``characters`` replaced by a space."""
    table = dict.fromkeys(map(ord, characters), " ")
    return [text.translate(table) for text in texts] if table else texts
