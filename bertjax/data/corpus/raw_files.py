"""Bytes of regular files, hashed as they are read; errors are one line."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from bertjax.errors import DataError

_CHUNK = 1 << 20


class Content(NamedTuple):
    """Of a file: hex SHA-256, and size in bytes."""

    sha256: str
    size: int


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is read into a DataError of one line."""
    try:
        yield
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{path} cannot be read: {reason}") from None
        if "emory" in reason:  # what the libraries say of a window larger than they are allowed to have
            raise DataError(
                f"{path} takes too much memory to decompress ({reason}); compress it again with a window of 128 MiB "
                f"at most, as `xz -9` and `zstd -19` do"
            ) from None
        raise DataError(f"{path} is damaged or cut short: {reason}") from None


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A regular file, open for reading. Raises DataError, also for pipes and devices, which may never end."""
    with reading(path):
        check_is_regular(path, path.stat().st_mode)  # before opening, which may wait for ever
        with path.open("rb", buffering=0) as file:
            check_is_regular(path, os.fstat(file.fileno()).st_mode)
            yield file


def check_is_regular(path: Path, mode: int) -> None:
    """Raises DataError for what is not a file with an end."""
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
    for is_kind, what in (*kinds, (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder")):
        if is_kind(mode):
            raise DataError(f"{path} is {what}, not a file; copy its output to a file first")


class HashedFile(io.RawIOBase):
    """The bytes of a file, hashed as they are read, up to its size when it was opened, or up to ``expected.size``.

    ``count``: bytes read so far. expected: its content when it was hashed; what was appended since is not read.
    """

    def __init__(self, path: Path, file: IO[bytes], expected: Content | None = None) -> None:
        self._path, self._file, self._expected = path, file, expected
        self._size = os.fstat(file.fileno()).st_size if expected is None else expected.size
        self._digest, self.count = hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        room = memoryview(buffer)[: self._size - self.count]
        length = self._file.readinto(room) if len(room) else 0  # pyright: ignore[reportAttributeAccessIssue]
        self._digest.update(room[:length])
        self.count += length
        return length

    def finish(self) -> Content:
        """The content of the file; reads the rest of it. Raises DataError if it is not as expected."""
        while self.read(_CHUNK):
            pass
        content = Content(self._digest.hexdigest(), self.count)
        check_unchanged(self._path, content, self._expected)
        return content


def check_unchanged(what: object, found: Content, expected: Content | None) -> None:
    """Raises DataError if the content is not what it was when it was hashed for the manifest."""
    if expected is not None and found != expected:
        raise DataError(f"{what} was changed while it was read; start again when nothing writes to it")


def hash_file(path: Path) -> Content:
    """The content of a file, up to its present size. Raises DataError."""
    with opened(path) as file:
        return HashedFile(path, file).finish()
