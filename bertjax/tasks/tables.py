"""tsv, csv and jsonl -> examples: rows with line numbers, columns named in the config or found from the header."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertjax.data.files import DataError
from bertjax.digits import whole_number
from bertjax.keys import ConfigError
from bertjax.tasks.examples import TextExample, check_text, checked_label, not_empty, shown
from bertjax.tasks.lines import ending, json_objects, numbered_lines

# The usual names of columns; of several that are there the first one is taken.
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("#1 string", "#2 string"),
    ("text1", "text2"),
    ("text", "text_pair"),
    ("anchor", "positive"),
)
_SINGLES = ("sentence", "text", "content", "review", "question")
_LABELS = ("gold_label", "label", "labels", "class", "category", "is_duplicate", "quality")
_NUMBERS = ("score", "similarity_score", "label", "gold_label")
_LABEL_NAMES = {
    "classification": _LABELS,
    "multi_label": ("labels", *_LABELS),
    "regression": _NUMBERS,
    "embedding": _NUMBERS,
}


@dataclass(frozen=True)
class Columns:
    """Which column holds what: a name of the header, or a number from 0 as a string. None: found from the header.

    Where ``text`` is given, the second text is what ``second`` says and nothing else. ``separator`` stands between
    the labels of a cell with several.
    """

    text: str | None = None
    second: str | None = None
    label: str | None = None
    separator: str = ","


@dataclass(frozen=True)
class Row:
    """One record: its line, and its cells by column (a name or a number)."""

    line: int
    cells: Mapping[Any, Any]


def read_texts(path: str | Path, columns: Columns, kind: str) -> list[TextExample]:
    """Examples of a .tsv, .csv or .jsonl file (also .gz .xz .zst), in its order.

    ``kind``: classification, multi_label, regression, or embedding, where the label may be missing. In a .tsv file
    quotes are characters like any other, except around a cell with doubled quotes in it, as spreadsheets write it.
    The first line of .tsv and .csv is a header where a column is named, or where it consists of usual names. Raises
    DataError that begins with "path:line:", ConfigError for columns that cannot be meant.
    """
    path = Path(path)
    if kind not in _LABEL_NAMES:
        raise ConfigError(f"kind = {kind!r}; allowed: {', '.join(_LABEL_NAMES)}")
    if columns.second is not None and columns.text is None:
        raise ConfigError("the column of the second text is given without that of the text")
    readers = {name: _delimited(records) for name, records in RECORDS.items()} | {".jsonl": _objects}
    if ending(path) not in readers:
        raise DataError(f"{path} is of no known kind; known are .tsv, .csv and .jsonl (also .gz .xz .zst)")
    found, rows = readers[ending(path)](path, columns, kind)
    examples = [_example(row, found, f"{path}:{row.line}", kind, columns.separator) for row in rows]
    return not_empty(examples, f"{path}:1: there is a header and no example")


@dataclass(frozen=True)
class _Found:
    """The columns of a file, by what Row.cells calls them."""

    text: Any
    second: Any
    label: Any


def _example(row: Row, found: _Found, where: str, kind: str, separator: str) -> TextExample:
    text, second = row.cells[found.text], None if found.second is None else row.cells[found.second]
    check_text(text, where, f"the text (column {found.text})")
    if found.second is not None:
        check_text(second, where, f"the second text (column {found.second})")
    label = None if found.label is None else checked_label(row.cells[found.label], kind, where, separator)
    return TextExample(where, text, second, label)


def _delimited(records):
    """A reader of a file whose records are lists of cells."""

    def read(path: Path, columns: Columns, kind: str) -> tuple[_Found, Iterator[Row]]:
        stream = records(path)
        line, first = next(stream, (1, None))
        if first is None:
            raise DataError(f"{path}:1: the file is empty")
        names = [cell.strip() for cell in first]
        found, is_header = _columns(names, columns, kind, f"{path}:{line}")

        def rows() -> Iterator[Row]:
            if not is_header:
                yield Row(line, dict(enumerate(first)))
            for number, cells in stream:
                if len(cells) != len(first):
                    raise DataError(f"{path}:{number}: fields: {len(cells)}, while line {line} has {len(first)}")
                yield Row(number, dict(enumerate(cells)))

        return found, rows()

    return read


def _columns(names: list[str], columns: Columns, kind: str, where: str) -> tuple[_Found, bool]:
    """The columns of a file by number, and whether its first line, ``names``, is a header."""

    def position(column: str) -> int:
        number = whole_number(column)
        if number is not None:
            if number < len(names):
                return number
            raise DataError(f"{where}: there is no column {column}; the {len(names)} columns are numbered from 0")
        return _position(column, names, where)

    wanted = _usual(names, columns, kind, where)
    positions = [None if column is None else position(column) for column in wanted]
    # Where columns are numbered, the file may have a header all the same.
    usual = {name for pair in _PAIRS for name in pair} | {*_SINGLES, *_LABEL_NAMES[kind]}
    is_header = any(column is not None and whole_number(column) is None for column in wanted) or all(
        names[i].lower() in usual for i in positions if i is not None
    )
    return _Found(*positions), is_header


def _position(column: str, names: list[str], where: str) -> int:
    """The place of the one column of this name, or of the one in another case."""
    found = [i for i, name in enumerate(names) if name == column]
    found = found or [i for i, name in enumerate(names) if name.lower() == column.lower()]
    if len(found) == 1:
        return found[0]
    what = "several columns" if found else "no column"
    raise DataError(f"{where}: {what} {column!r}; the columns are {_listed(names)}")


def _usual(names, columns: Columns, kind: str, where: str) -> tuple[str, str | None, str | None]:
    """Columns by name: those given, the others by their usual names among ``names``."""
    lower = [name.lower() for name in names]
    text, second = columns.text, columns.second
    if text is None:
        pairs = [pair for pair in _PAIRS if set(pair) <= set(lower)]
        singles = [(name, None) for name in _SINGLES if name in lower]
        found = (pairs + singles)[:1]
        if not found:
            raise DataError(
                f"{where}: no column has a usual name of a text; name the columns, by number where there is no "
                f"header; the columns are {_listed(names)}"
            )
        text, second = found[0]
    label = columns.label or next((name for name in _LABEL_NAMES[kind] if name in lower), None)
    if label is None and kind != "embedding":
        raise DataError(
            f"{where}: no column has a usual name of a label ({', '.join(_LABEL_NAMES[kind])}); name it; the columns "
            f"are {_listed(names)}"
        )
    return text, second, label


def _listed(names: list[str]) -> str:
    return ", ".join([shown(name) for name in names[:12]] + ["..."] * (len(names) > 12))


def _tsv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in numbered_lines(path):
        if line:
            yield number, [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell: str) -> str:
    """A cell as a spreadsheet meant it: quotes around it are its writer's where those inside are doubled."""
    inner = cell[1:-1]
    is_quoted = len(cell) > 3 and cell[0] == cell[-1] == '"' and '""' in inner and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_quoted else cell


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line + "\n" for _, line in numbered_lines(path)), strict=True)
    longest = csv.field_size_limit(sys.maxsize)  # of the whole process: not left so between two records
    records, start = [], 1
    try:
        for cells in reader:
            if cells:
                records.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}:{start}: the record that begins here is no csv: {error}; a quote in a quoted cell is doubled"
        ) from None
    finally:
        csv.field_size_limit(longest)
    return iter(records)


# Ending of a file -> (line, cells) of each of its records.
RECORDS = {".tsv": _tsv_records, ".csv": _csv_records}


def _objects(path: Path, columns: Columns, kind: str) -> tuple[_Found, Iterator[Row]]:
    """A reader of a file with a JSON object a line."""
    stream = json_objects(path)
    line, first = next(stream, (1, None))
    if first is None:
        raise DataError(f"{path}:1: the file is empty")
    names, where = list(first), f"{path}:{line}"
    wanted = [c if c is None else names[_position(c, names, where)] for c in _usual(names, columns, kind, where)]

    def rows() -> Iterator[Row]:
        for number, cells in itertools.chain([(line, first)], stream):
            for column in wanted:
                if column is not None and column not in cells:
                    raise DataError(f"{path}:{number}: no column {column!r}; the columns are {_listed(list(cells))}")
            yield Row(number, cells)

    return _Found(*wanted), rows()
