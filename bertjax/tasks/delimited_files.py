"""The records of .tsv and .csv files with their line numbers, whatever separates their cells."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bertjax.errors import DataError
from bertjax.tasks.numbered_lines import numbered_lines

# (number of its first line, its cells) of each record
Records = Iterator[tuple[int, list[str]]]
# What may separate the cells of a .csv; the first of several that split equally many lines alike.
_DELIMITERS = ",;\t|"
_SAMPLE = 100  # lines that decide
_SPREADSHEETS_OWN = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # the first line of what Excel and others write
_SPACED_QUOTE = re.compile(' +"')


def _tsv_records(path: Path) -> Records:
    for number, line in numbered_lines(path):
        if line and not (number == 1 and _SPREADSHEETS_OWN.fullmatch(line)):
            yield number, [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell: str) -> str:
    """Without the quotes that spreadsheets put around a cell with quotes inside, which they double."""
    inner = cell[1:-1]
    is_quoted = len(cell) > 3 and cell[0] == cell[-1] == '"' and '""' in inner and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_quoted else cell


def _csv_records(path: Path) -> Records:
    lines = (line + "\n" for _, line in numbered_lines(path))
    head = list(itertools.islice(lines, _SAMPLE))
    own = _SPREADSHEETS_OWN.fullmatch(head[0].rstrip("\n")) if head else None
    before = 1 if own else 0
    longest = csv.field_size_limit(
        sys.maxsize
    )  # a setting of the process, so it must not stay raised between two records
    records, start = [], before + 1
    try:
        form: dict[str, Any] = {"delimiter": own[1] if own else _delimiter(head)}
        form["skipinitialspace"] = _are_spaced(head[before:], form["delimiter"])
        reader = csv.reader(itertools.chain(head[before:], lines), strict=True, **form)
        for cells in reader:
            if cells:
                records.append((start, cells))
            start = before + reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}:{start}: the record that begins here is not valid csv: {error}; double a quote in a quoted cell"
        ) from None
    finally:
        csv.field_size_limit(longest)
    return iter(records)


def _are_spaced(lines: list[str], delimiter: str) -> bool:
    """Whether a cell of the first record has blanks before its quotes, which do not belong to it."""
    return any(_SPACED_QUOTE.match(cell) for cell in next(csv.reader(lines, delimiter=delimiter), []))


def _delimiter(head: list[str]) -> str:
    """The delimiter that splits the most records of ``head`` into as many cells as the first (two or more)."""
    widths = {delimiter: _widths(head, delimiter) for delimiter in _DELIMITERS}
    alike = {delimiter: found.count(found[0]) / len(found) for delimiter, found in widths.items() if found[:1] > [1]}
    return max(alike, key=lambda delimiter: alike[delimiter], default=",")


def _widths(head: list[str], delimiter: str) -> list[int]:
    """How many cells each complete record has."""
    found: list[int] = []
    with contextlib.suppress(csv.Error):
        for cells in csv.reader(head, delimiter=delimiter, strict=True):
            found += [len(cells)] if cells else []
    return found


# Ending of a file -> reads its records.
DELIMITED: dict[str, Callable[[Path], Records]] = {".tsv": _tsv_records, ".csv": _csv_records}
