"""Reads files of documents line by line, compressed or not, and replaces what is not text."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertjax.data.corpus.compressed import decompressed
from bertjax.data.corpus.encodings import BYTE_ORDER_MARK, MARK, Decoded, refuse_wide
from bertjax.data.corpus.raw_files import Content, HashedFile, opened

# A longer line of a text file is read as several lines; a longer line of JSON is skipped.
LONGEST_LINE = 64 << 20
_CHUNK = 1 << 20
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


@dataclass
class Report:
    """What was found while reading. ``bytes_read``: of the files, before decompression.

    source: counts of the source that is being read. damaged: a line for each source with more than a few invalid bytes.
    """

    documents: int = 0
    replaced_bytes: int = 0
    skipped_lines: int = 0
    bytes_read: int = 0
    source: Decoded = field(default_factory=Decoded)
    damaged: list[str] = field(default_factory=list)

    def decode(self, data: bytes) -> str:
        """``data`` as text: invalid UTF-8 and NULs become U+FFFD and are counted, byte order marks are dropped."""
        try:
            text = data.decode("utf-8")
            self.source.multibyte += len(data) - len(text)
        except UnicodeDecodeError:
            text = data.decode("utf-8", "replace")
            # What was valid encodes to the same bytes; a U+FFFD in the data itself is valid, too.
            own = data.count(_REPLACEMENT.encode())
            made = text.count(_REPLACEMENT) - own
            valid = len(text.encode("utf-8")) - 3 * made
            self._replaced(len(data) - valid, data)
            self.source.multibyte += valid - (len(text) - made)
        self.source.read += len(data)
        return self._cleaned(text, lambda: data)

    def take(self, text: str) -> str:
        """``clean`` for text that was not decoded here."""
        self.source.read += len(text.encode("utf-8", "surrogatepass"))
        return self.clean(text)

    def clean(self, text: str) -> str:
        """``text`` with NULs and lone surrogates replaced by U+FFFD and counted, without byte order marks."""
        return self._cleaned(text, lambda: _bytes_of(text))

    def _cleaned(self, text: str, data: Callable[[], bytes]) -> str:
        if BYTE_ORDER_MARK in text:  # in the middle, where files were joined
            text = text.replace(BYTE_ORDER_MARK, "")
        if "\0" in text or not _encodes(text):
            self.source.nuls += text.count("\0")
            text, count = _NOT_TEXT.subn(_REPLACEMENT, text)
            self._replaced(count, data())
        return text

    def _replaced(self, count: int, data: bytes) -> None:
        self.source.keep(data)
        self.replaced_bytes += count
        self.source.replaced += count


def _bytes_of(text: str) -> bytes:
    """The bytes that a text was read from, if its surrogates are Python's for bytes that could not be decoded."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


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

    A line ends at LF or CR LF, or at CR in a file that begins without any LF; a byte order mark before a line is
    skipped. A line longer than LONGEST_LINE comes in pieces of that size. ``expected``: the content when the file was
    hashed; bytes appended since are not read. Raises DataError if it cannot be read,
    has changed, or is UTF-16 or UTF-32.
    """
    with opened(path) as file:
        raw = HashedFile(path, file, expected)
        counted = 0
        with decompressed(path, io.BufferedReader(raw, _CHUNK)) as stream:
            lined = _lined(path, stream, raw)
            first = True
            while line := _next_line(lined, raw):
                report.bytes_read += raw.count - counted
                counted = raw.count
                # At the start, and where files were joined; a table cell that is just a mark stays.
                while line.startswith(MARK) and (first or not line.startswith(MARK + b"\t")):
                    line = line[len(MARK) :]
                first = False
                yield line.rstrip(b"\r\n")
            raw.finish()


def _lined(path: Path, stream: Any, raw: HashedFile) -> Any:
    """The stream with lines that end in a line feed. Raises DataError for UTF-16 and UTF-32."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream, _CHUNK)
    try:
        head = buffered.peek(_CHUNK)
    except Exception:
        raw.finish()
        raise
    refuse_wide(path, head)
    # A file from an old Mac: every line ends in a carriage return alone.
    only_returns = b"\r" in head[:-1] and b"\n" not in head
    return io.BufferedReader(_LineFeeds(buffered), _CHUNK) if only_returns else buffered


class _LineFeeds(io.RawIOBase):
    """Bytes with carriage returns replaced by line feeds."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self._stream.read1(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


def _next_line(stream: Any, raw: HashedFile) -> bytes:
    try:
        return stream.readline(LONGEST_LINE)
    except Exception:
        raw.finish()  # if the file was replaced meanwhile, say that instead
        raise
