"""The records of labelled files with the numbers of their lines: lines, cells of .tsv and .csv, JSON objects.

Invalid UTF-8 is an error here, not replaced.
"""

import contextlib
import csv
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bertjax.cli.showing import quoted, short
from bertjax.data.corpus.encodings import SAMPLE_BYTES, guessed_encoding, iconv
from bertjax.data.corpus.files import LONGEST_LINE, Report, lines
from bertjax.errors import DataError

# How files that are not text begin -> what they are, and what to do.
_NOT_TEXT = {
    b"PK\x03\x04": "a zip archive, or the .xlsx of a spreadsheet; unpack it, or save the sheet as .csv in UTF-8",
    b"\xd0\xcf\x11\xe0": "the .xls of a spreadsheet; save the sheet as .csv in UTF-8",
    b"PAR1": "a parquet file; save it as .jsonl, as to_json of `datasets` does",
    b"\x1f\x8b": "compressed by gzip; its name must end in .gz",
    b"\xfd7zXZ": "compressed by xz; its name must end in .xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; its name must end in .zst",
}
# (number of its first line, its cells) of each record
Records = Iterator[tuple[int, list[str]]]
# What may separate the cells of a .csv; the first of several that split equally many lines alike.
_DELIMITERS = ",;\t|"
_SAMPLE = 100  # lines that decide
_SPREADSHEETS_OWN = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # the first line of what Excel and others write
_SPACED_QUOTE = re.compile(' +"')


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its line break) of every line, decompressed by the file's ending. Lines are those of
    ``bertjax.data.corpus.files.lines``: U+2028 and the like are characters of a text. A byte order mark before a line
    is skipped. Raises DataError for invalid UTF-8, NULs and files that cannot be read."""
    found = lines(path, Report())
    for number, line in enumerate(found, start=1):
        if len(line) >= LONGEST_LINE - 2:
            raise DataError(f"{path}:{number}: the line is longer than {LONGEST_LINE >> 20} MiB")
        yield number, decoded(line, path, number, found)


def json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of every line that is not blank. Raises DataError, also for JSON other than an object."""
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = short(error, 120)
            if isinstance(error, json.JSONDecodeError):
                why = f"{error.msg}, column {error.colno}{_advice(line)}"
            raise DataError(f"{path}:{number}: not valid JSON: {why}") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number}: must be a JSON object, not {quoted(value)}{_advice(line)}")
        yield number, value


def _advice(line: str) -> str:
    """How to turn JSON of another layout into an object a line, as far as its first line shows the layout."""
    begin = line.strip()
    program = ".[]" if begin.startswith("[") else "."
    advice = f"; there must be an object a line: `jq -c '{program}' FILE > NEW_FILE.jsonl` writes it so"
    return advice * (begin.startswith("[") or begin == "{")


def decoded(line: bytes, path: Path, number: int, rest: Iterable[bytes] = ()) -> str:
    """The text of one line. rest: the lines after it, which help to guess the encoding. Raises DataError."""
    if number == 1:
        refuse_binary(path, line)
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise DataError(
            f"{path}:{number}: byte {error.start} of the line, 0x{byte:02x}, is not valid UTF-8; "
            f"save the whole file as UTF-8{_perhaps(path, [line], rest)}"
        ) from None
    if "\0" in text:
        raise DataError(f"{path}:{number}: the line holds a NUL character; the file is not text, or not UTF-8")
    return text


def refuse_binary(path: Path, data: bytes) -> None:
    for head, what in _NOT_TEXT.items():
        if data.startswith(head):
            raise DataError(f"{path} is {what}")


def _perhaps(path: Path, sample: list[bytes], rest: Iterable[bytes]) -> str:
    """The encoding that the lines that are not UTF-8 suggest, in words; "" if none fits, or if most is UTF-8."""
    multibyte, size = 0, len(sample[0])
    for line in rest:
        if size > SAMPLE_BYTES:
            break
        size += len(line)
        try:
            multibyte += len(line) - len(line.decode("utf-8"))
        except UnicodeDecodeError:
            sample.append(line)
    encoding = guessed_encoding(b"\n".join(sample)[:SAMPLE_BYTES])
    is_mixed = 4 * multibyte > sum(byte >= 0x80 for line in sample for byte in line)
    return "" if encoding is None or is_mixed else f"; perhaps it is {encoding}: {iconv(path, encoding)}"


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
