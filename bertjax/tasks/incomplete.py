"""Examples that are left out because something is missing in them: a few are counted and told, many are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bertjax.errors import DataError

# Gets each line about what was left out.
Warn = Callable[[str], None]
silent: Warn = lambda line: None
MOST = 0.01  # of all examples


class Incomplete(DataError):
    """What an example needs is missing in it; the rest of the data may be sound."""


def drop_incomplete(items: Iterable[Any], make: Callable[[Any], Any], warn: Warn, most: float = MOST) -> list[Any]:
    """``make(item)`` of all items, but of those for which it raises ``Incomplete``: they are left out and counted in
    a line to ``warn``.

    Raises DataError, with the place of the first, where these are more than the fraction ``most`` of all.
    """
    made: list[Any] = []
    missing: list[Incomplete] = []
    for item in items:
        try:
            made.append(make(item))
        except Incomplete as error:
            missing.append(error)
    count, total = len(missing), len(made) + len(missing)
    if count > most * total:
        others = f" ({count - 1:,} more like it among {total:,} examples)" * (count > 1)
        raise DataError(f"{missing[0]}{others}; remove such examples: only up to {most:.0%} of them are left out")
    if missing:
        others = f", and {count - 1:,} more" * (count > 1)
        warn(f"{count:,} of {total:,} examples left out: {missing[0]}{others}")
    return made
