"""The lines of a labelled file with their numbers. Here invalid UTF-8 is an error, not replaced."""

import json
from collections.abc import Iterable, Iterator
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


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its line break) of every line, decompressed by the file's ending.

    Lines are those of ``bertjax.data.corpus.files.lines``: U+2028 and the like are characters of a text. A byte order
    mark before a line is skipped. Raises DataError for invalid UTF-8, NULs and files that cannot be read.
    """
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
