"""The records of .tsv and .csv files with their line numbers, whatever stands between their cells."""

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
# What may stand between the cells of a .csv; of several that divide as many lines alike the first one is taken.
_DELIMITERS = ",;\t|"
_SAMPLE = 100  # lines that decide
_SPREADSHEETS_OWN = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # the first line of what Excel and others write
_SPACED_QUOTE = re.compile(' +"')


def _tsv_records(path: Path) -> Records:
    for number, line in numbered_lines(path):
        if line and not (number == 1 and _SPREADSHEETS_OWN.fullmatch(line)):
            yield number, [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell: str) -> str:
    """A cell as a spreadsheet meant it: quotes around it are its writer's where those inside are doubled."""
    inner = cell[1:-1]
    is_quoted = len(cell) > 3 and cell[0] == cell[-1] == '"' and '""' in inner and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_quoted else cell


def _csv_records(path: Path) -> Records:
    lines = (line + "\n" for _, line in numbered_lines(path))
    head = list(itertools.islice(lines, _SAMPLE))
    own = _SPREADSHEETS_OWN.fullmatch(head[0].rstrip("\n")) if head else None
    before = 1 if own else 0
    longest = csv.field_size_limit(sys.maxsize)  # of the whole process: not left so between two records
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
            f"{path}:{start}: the record that begins here is no csv: {error}; a quote in a quoted cell is doubled"
        ) from None
    finally:
        csv.field_size_limit(longest)
    return iter(records)


def _are_spaced(lines: list[str], delimiter: str) -> bool:
    """Whether blanks before the quotes of a cell of the first record are no part of it."""
    return any(_SPACED_QUOTE.match(cell) for cell in next(csv.reader(lines, delimiter=delimiter), []))


def _delimiter(head: list[str]) -> str:
    """The one that divides the first record, and the most of ``head`` into as many cells; of equals the first."""
    widths = {delimiter: _widths(head, delimiter) for delimiter in _DELIMITERS}
    alike = {delimiter: found.count(found[0]) / len(found) for delimiter, found in widths.items() if found[:1] > [1]}
    return max(alike, key=lambda delimiter: alike[delimiter], default=",")


def _widths(head: list[str], delimiter: str) -> list[int]:
    """How many cells each record has; of the last one only where it is whole."""
    found: list[int] = []
    with contextlib.suppress(csv.Error):
        for cells in csv.reader(head, delimiter=delimiter, strict=True):
            found += [len(cells)] if cells else []
    return found


# Ending of a file -> its records.
DELIMITED: dict[str, Callable[[Path], Records]] = {".tsv": _tsv_records, ".csv": _csv_records}
