"""Names of labels that a person takes for the same: they differ in invisible characters, spaces, the form of a
number, or case."""

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


def _unquoted(name: str) -> str:
    return name[1:-1].strip() if len(name) > 2 and name[0] in _QUOTES and name[-1] in _QUOTES else name


def _number(name: str) -> str:
    """1 for 1.0 and +1. 01 stays, it may be a code; so do fractions: 1.1 and 1.10 may be sections."""
    whole = _WHOLE.fullmatch(name)
    return name if whole is None else "0" if whole[1] == "-0" else whole[1]


# What two names may differ in -> their form without it.
_DIFFERENCES: dict[str, Callable[[str], str]] = {
    "characters that cannot be seen": _visible,
    "the kind or number of their spaces": lambda name: " ".join(name.split()),
    "how Unicode writes their characters": lambda name: unicodedata.normalize("NFKC", name),
    "the quotes around it": _unquoted,
    "how the number is written": _number,
    "case": str.casefold,
}


def canonical(name: str) -> str:
    """The form that all confusable names share."""
    for form in (*_DIFFERENCES.values(), *list(_DIFFERENCES.values())[:2]):
        name = form(name)
    return name


def difference(one: str, other: str) -> str:
    """What two confusable names differ in, as words that follow "differs only in"."""
    alone = (words for words, form in _DIFFERENCES.items() if form(one) == form(other))
    return next(alone, "how it is written")


def confusable_with(name: str, names: Iterable[str]) -> str | None:
    plain = canonical(name)
    return next((other for other in names if other != name and canonical(other) == plain), None)


def quoted_pair(one: str, other: str) -> tuple[str, str, str]:
    """Two confusable names in quotes, spelled so that they look different, and what they differ in."""
    words = difference(one, other)
    spelled = repr if words in ("case", "how the number is written", "the quotes around it") else ascii
    return spelled(one), spelled(other), words


def refuse_confusable(name: str, names: Iterable[str], where: str, advice: str = "") -> None:
    """Raises DataError that begins with the place ``where`` if ``name`` is confusable with one of ``names``."""
    other = confusable_with(name, names)
    if other is not None:
        mine, theirs, words = quoted_pair(name, other)
        raise DataError(
            f"{where}: the label {mine} is not in the label map; it differs from {theirs} only in {words}{advice}"
        )
