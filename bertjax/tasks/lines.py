"""The lines of a labelled file with their numbers. What is no UTF-8 is an error here, not a replacement."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bertjax.data.encodings import SAMPLE_BYTES, guessed_encoding, iconv
from bertjax.data.files import LONGEST_LINE, DataError, Report, lines
from bertjax.tasks.examples import shown

COMPRESSED = (".gz", ".xz", ".lzma", ".zst")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its line break) of every line, decompressed by the file's ending.

    Lines are those of ``bertjax.data.files.lines``: U+2028 and the like are characters of a text. A byte order mark
    before a line is passed over. Raises DataError for bytes that are no UTF-8, NULs and files that cannot be read.
    """
    found = lines(path, Report())
    for number, line in enumerate(found, start=1):
        if len(line) >= LONGEST_LINE - 2:
            raise DataError(f"{path}:{number}: the line is longer than {LONGEST_LINE >> 20} MiB")
        yield number, decoded(line, path, number, found)


def json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of every line that is not blank. Raises DataError, also for a line that is no object."""
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: no JSON: {error.msg}, column {error.colno}") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: no JSON: {' '.join(str(error).split())[:120]}") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number}: must be a JSON object, not {shown(value)}")
        yield number, value


def decoded(line: bytes, path: Path, number: int, rest: Iterable[bytes] = ()) -> str:
    """The text of one line. rest: the lines after it, from which the encoding is guessed, too.

    Raises DataError that names the line and the byte in it (from 0).
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise DataError(
            f"{path}:{number}: byte {error.start} of the line, 0x{byte:02x}, is no UTF-8; "
            f"save the whole file as UTF-8{_perhaps(path, [line], rest)}"
        ) from None
    if "\0" in text:
        raise DataError(f"{path}:{number}: the line holds a NUL character; the file is no text, or is not UTF-8")
    return text


def _perhaps(path: Path, sample: list[bytes], rest: Iterable[bytes]) -> str:
    """What the file may be, in words, from the lines that are no UTF-8: "" where nothing fits, or most is UTF-8."""
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


def ending(path: Path) -> str:
    """The ending that says what is in a file, in lower case, without that of its compression: ".tsv" of x.tsv.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""
