"""Names of labels that a person takes for one: they differ in what cannot be seen, in a number's form, or in case."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

from bertjax.errors import DataError

_INVISIBLE = ("Cc", "Cf")
_INVISIBLE_TOO = "\u034f\u115f\u1160\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))
_QUOTES = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
_WHOLE = re.compile(r"\+?(-?(?:0|[1-9][0-9]*))(?:\.0*)?")


def _visible(name: str) -> str:
    kept = (c for c in name if unicodedata.category(c) not in _INVISIBLE and c not in _INVISIBLE_TOO)
    return "".join(kept).strip()


def _spaced(name: str) -> str:
    return " ".join(name.split())


def _composed(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


def _unquoted(name: str) -> str:
    return name[1:-1].strip() if len(name) > 2 and name[0] in _QUOTES and name[-1] in _QUOTES else name


def _number(name: str) -> str:
    """1 for 1.0 and +1. Not for 01, which may be a code, nor of fractions: 1.1 and 1.10 may be sections."""
    whole = _WHOLE.fullmatch(name)
    return name if whole is None else "0" if whole[1] == "-0" else whole[1]


# What two names may differ in -> their form without it.
_DIFFERENCES: dict[str, Callable[[str], str]] = {
    "characters that cannot be seen": _visible,
    "the kind or number of their spaces": _spaced,
    "how Unicode writes their characters": _composed,
    "the quotes around it": _unquoted,
    "how the number is written": _number,
    "case": str.casefold,
}


def canonical(name: str) -> str:
    """The name without anything in which lookalikes differ."""
    for form in (*_DIFFERENCES.values(), _visible, _spaced):
        name = form(name)
    return name


def difference(one: str, other: str) -> str:
    """What two names differ in, whose ``canonical`` form is the same: words that follow "differs only in"."""
    alone = (words for words, form in _DIFFERENCES.items() if form(one) == form(other))
    return next(alone, "how it is written")


def confusable_with(name: str, names: Iterable[str]) -> str | None:
    """The first of ``names`` that a person would take for ``name``."""
    plain = canonical(name)
    return next((other for other in names if other != name and canonical(other) == plain), None)


def quoted_pair(one: str, other: str) -> tuple[str, str, str]:
    """Two lookalikes as an error line has them: each in quotes, never spelled alike, and what they differ in."""
    words = difference(one, other)
    quoted = repr if words in ("case", "how the number is written", "the quotes around it") else ascii
    return quoted(one), quoted(other), words


def refuse_confusable(name: str, names: Iterable[str], where: str, advice: str = "") -> None:
    """Raises DataError, which begins with the place ``where``, if ``name`` looks like one of ``names`` and is none."""
    other = confusable_with(name, names)
    if other is not None:
        mine, theirs, words = quoted_pair(name, other)
        raise DataError(
            f"{where}: the label {mine} is not in the label map; it differs from {theirs} only in {words}{advice}"
        )
