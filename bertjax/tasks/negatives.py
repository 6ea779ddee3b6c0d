"""Columns of texts that do not belong to the first of a pair: negative, negative_1, hard_negative, negatives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bertjax.tasks.examples import check_text

_NAME = re.compile(r"(hard_)?negatives?(_?\d+)?", re.IGNORECASE)


def is_negative(name: str) -> bool:
    """Whether a column of this name holds negatives."""
    return _NAME.fullmatch(name) is not None


def negatives_of(cells: Mapping[Any, Any], columns: Sequence[Any] | None, where: str) -> tuple[str, ...]:
    """The texts of a record's columns, in their order; a cell may be empty or null, or hold a list.

    columns: None for those whose names say so. Raises DataError that begins with ``where``.
    """
    found: list[str] = []
    for column in filter(is_negative, cells) if columns is None else columns:
        several = cells[column] if isinstance(cells[column], list) else [cells[column]]
        for text in several:
            if text is None or (isinstance(text, str) and not text.strip()):
                continue
            check_text(text, where, "a negative")
            found.append(text)
    return tuple(found)
