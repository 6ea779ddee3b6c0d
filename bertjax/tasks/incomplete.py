"""Examples that lack a text or a label: a few are skipped with a warning, many are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bertjax.errors import DataError

Warn = Callable[[str], None]  # gets warnings, a line each
silent: Warn = lambda line: None
MOST_INCOMPLETE = 0.01  # of all examples


class Incomplete(DataError):
    """An example lacks what it needs; the rest of the data may be sound."""


def drop_incomplete(items: Iterable[Any], make: Callable[[Any], Any], warn: Warn) -> list[Any]:
    """``make(item)`` of all items except those for which it raises ``Incomplete``; a line to ``warn`` counts these.

    Raises DataError with the place of the first if they are more than ``MOST_INCOMPLETE`` of all.
    """
    made: list[Any] = []
    missing: list[Incomplete] = []
    for item in items:
        try:
            made.append(make(item))
        except Incomplete as error:
            missing.append(error)
    count, total = len(missing), len(made) + len(missing)
    if count > MOST_INCOMPLETE * total:
        others = f" ({count - 1:,} more like it among {total:,} examples)" * (count > 1)
        raise DataError(
            f"{missing[0]}{others}; remove such examples: only up to {MOST_INCOMPLETE:.0%} of them are left out"
        )
    if missing:
        others = f", and {count - 1:,} more" * (count > 1)
        warn(f"{count:,} of {total:,} examples left out: {missing[0]}{others}")
    return made
