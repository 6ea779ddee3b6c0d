"""The records of .tsv and .csv files with their line numbers, whatever separates their cells, and their headers."""

import contextlib
import csv
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bertjax.errors import DataError
from bertjax.tasks.examples import TextExample
from bertjax.tasks.numbered_lines import numbered_lines

# (number of its first line, its cells) of each record
Records = Iterator[tuple[int, list[str]]]
# What may separate the cells of a .csv; the first of several that split equally many lines alike.
_DELIMITERS = ",;\t|"
_SAMPLE = 100  # lines that decide
_SPREADSHEETS_OWN = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # the first line of what Excel and others write
_SPACED_QUOTE = re.compile(' +"')
_NAME = re.compile(r"[^\W\d][\w.#-]*")
# With at least so many examples, of which at most this share are single words, a single word is a column's name.
_LEAST, _SINGLE = 5, 0.1


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
    longest = csv.field_size_limit(sys.maxsize)  # a setting of the process: restored before the caller continues
    records, start = [], before + 1
    try:
        delimiter = own[1] if own else _delimiter(head)
        # Blanks before the quotes of a cell do not belong to it.
        is_spaced = any(map(_SPACED_QUOTE.match, next(csv.reader(head[before:], delimiter=delimiter), [])))
        source = itertools.chain(head[before:], lines)
        reader = csv.reader(source, strict=True, delimiter=delimiter, skipinitialspace=is_spaced)
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


def _delimiter(head: list[str]) -> str:
    """The delimiter that splits the most records of ``head`` into as many cells as the first (two or more)."""
    alike: dict[str, float] = {}
    for delimiter in _DELIMITERS:
        widths: list[int] = []
        with contextlib.suppress(csv.Error):
            for cells in csv.reader(head, delimiter=delimiter, strict=True):
                widths += [len(cells)] if cells else []
        if widths[:1] > [1]:
            alike[delimiter] = widths.count(widths[0]) / len(widths)
    return max(alike, key=lambda delimiter: alike[delimiter], default=",")


# Ending of a file -> reads its records.
DELIMITED: dict[str, Callable[[Path], Records]] = {".tsv": _tsv_records, ".csv": _csv_records}


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
