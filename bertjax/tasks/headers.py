"""The first line of a table: a header mistaken for an example, the same header again, and how many cells it has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bertjax.errors import DataError
from bertjax.tasks.examples import TextExample

_NAME = re.compile(r"[^\W\d][\w.#-]*")
# With at least so many examples, of which at most this share are single words, a single word is a column's name.
_LEAST, _SINGLE = 5, 0.1


def with_width(cells: list[str], first: Sequence[str]) -> list[str]:
    """As many cells as the first line has, if only empty cells at the end differ, as after a last delimiter."""
    if any(cell.strip() for cell in cells[len(first) :] or first[len(cells) :]):
        return cells
    return [*cells, *[""] * (len(first) - len(cells))][: len(first)]


def is_again(cells: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a line has the names of a header, in any order, with or without a byte order mark."""
    bare = lambda row: sorted(cell.strip("\ufeff \t").lower() for cell in row)
    return bare(cells) == bare(names)


def check_is_example(cells: Sequence[str], examples: Sequence[TextExample], where: str) -> None:
    """Raises DataError if the first line, read as an example because columns are numbered, looks like a header.

    It does if its label occurs nowhere else and is the only one that is not a number, or if its texts are single words
    and the others are not. cells: of its text, second text and label.
    """
    first, others = examples[0], examples[1:]
    if first.where != where or not others or not all(_NAME.fullmatch(cell.strip()) for cell in cells):
        return
    own, elsewhere = set(_names(first)), {name for example in others for name in _names(example)}
    if own & elsewhere:
        return
    odd_label = bool(own) and bool(elsewhere) and all(_is_number(name) for name in elsewhere)
    single = [len(example.text.split()) == 1 for example in others]
    odd_text = len(single) >= _LEAST and sum(single) <= _SINGLE * len(single)
    if odd_label or odd_text:
        names = ", ".join(repr(cell.strip()) for cell in cells)
        raise DataError(
            f"{where}: the line looks like a header, {names}, and the columns are numbered; give them by these names, "
            f"or, if it is an example, do not let it be the first"
        )


def _names(example: TextExample) -> tuple[Any, ...]:
    label = example.label
    return label if isinstance(label, tuple) else () if label is None else (label,)


def _is_number(name: Any) -> bool:
    try:
        return float(name) is not None
    except (TypeError, ValueError):
        return False
