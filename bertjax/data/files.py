"""Reads files of documents line by line, compressed or not, and cleans what is no text."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# A longer line of a text file is read as several; a longer line of JSON is passed over.
LONGEST_LINE = 64 << 20
_CHUNK = 1 << 20
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


class DataError(ValueError):
    """Data files that cannot be used. The message is one line; commands exit with code 3."""


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


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is read into a DataError of one line."""
    import zstandard

    try:
        yield
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise DataError(f"{path} is damaged or cut short: {error}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def lines(path: Path, report: Report) -> Iterator[bytes]:
    """The lines of a file without their line break, decompressed by its ending (.gz, .xz, .zst).

    A line longer than LONGEST_LINE comes in pieces of that size. Raises DataError.
    """
    with reading(path), path.open("rb") as raw:
        counted = 0
        stream = _decompressed(path, raw)
        with stream:
            first = True
            while line := stream.readline(LONGEST_LINE):
                if first:
                    line, first = line.removeprefix(b"\xef\xbb\xbf"), False
                position = raw.tell()
                report.bytes_read += position - counted
                counted = position
                yield line.rstrip(b"\r\n")


def _decompressed(path: Path, raw: IO[bytes]) -> Any:
    import zstandard

    match path.suffix.lower():
        case ".gz":
            return gzip.GzipFile(fileobj=raw)
        case ".xz" | ".lzma":
            return lzma.LZMAFile(raw)
        case ".zst":
            reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
            return io.BufferedReader(reader, _CHUNK)
    return raw


def hash_file(path: Path) -> tuple[str, int]:
    """(hex SHA-256, size in bytes) of a file. Raises DataError."""
    with reading(path), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()
