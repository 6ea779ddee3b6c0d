"""Reads files of documents line by line, compressed or not, and cleans what is no text."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertjax.data.raw_files import Content, DataError, HashedFile, hash_file, opened, reading
from bertjax.data.xz import XzReader
from bertjax.data.zst import zst_stream

__all__ = ["Content", "DataError", "Report", "hash_file", "lines", "reading"]

# A longer line of a text file is read as several; a longer line of JSON is passed over.
LONGEST_LINE = 64 << 20
_CHUNK = 1 << 20
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


@dataclass
class Report:
    """What reading has come across. ``bytes_read`` counts bytes of the files as they lie on disk."""

    documents: int = 0
    replaced_bytes: int = 0
    skipped_lines: int = 0
    bytes_read: int = 0

    def decode(self, data: bytes) -> str:
        """Text of UTF-8 ``data``; invalid bytes and NULs become U+FFFD and are counted."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("utf-8", "replace")
            # Whatever was valid encodes to what it was; U+FFFD written in the data is valid, too.
            own = data.count(_REPLACEMENT.encode())
            made = text.count(_REPLACEMENT) - own
            self.replaced_bytes += len(data) - (len(text.encode("utf-8")) - 3 * made)
        return self.clean(text)

    def clean(self, text: str) -> str:
        """``text`` with NULs and lone surrogates replaced by U+FFFD and counted."""
        if "\0" in text or not _encodes(text):
            text, count = _NOT_TEXT.subn(_REPLACEMENT, text)
            self.replaced_bytes += count
        return text


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def lines(path: Path, report: Report, expected: Content | None = None) -> Iterator[bytes]:
    """The lines of a file without their line break, decompressed by its ending (.gz, .xz, .zst).

    A line longer than LONGEST_LINE comes in pieces of that size. ``expected``: what the file was found to hold; bytes
    appended since are not read. Raises DataError, also where what was read is not that.
    """
    with opened(path) as file:
        raw = HashedFile(path, file, expected)
        counted = 0
        with _decompressed(path, io.BufferedReader(raw, _CHUNK)) as stream:
            first = True
            while line := _next_line(stream, raw):
                if first:
                    line, first = line.removeprefix(b"\xef\xbb\xbf"), False
                report.bytes_read += raw.count - counted
                counted = raw.count
                yield line.rstrip(b"\r\n")
            raw.finish()


def _next_line(stream: Any, raw: HashedFile) -> bytes:
    try:
        return stream.readline(LONGEST_LINE)
    except Exception:
        raw.finish()  # another file in its place is no damage, and is told as what it is
        raise


def _decompressed(path: Path, raw: io.BufferedReader) -> Any:
    match path.suffix.lower():
        case ".gz":
            return gzip.GzipFile(fileobj=raw)
        case ".xz" | ".lzma":
            return io.BufferedReader(XzReader(raw), _CHUNK)
        case ".zst":
            return zst_stream(raw)
    return raw
