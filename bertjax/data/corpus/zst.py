"""Reads .zst, and notices where a file ends within a frame: the library takes that for the end of the text.

The walk over the frames follows RFC 8878, section 3.1: frame header, blocks with their sizes, checksum.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from typing import Any

_MAGIC, _SKIPPED_MAGIC = 0xFD2FB528, 0x184D2A5  # the latter without its last four bits
_CHUNK = 1 << 20


def zst_stream(raw: Any) -> io.BufferedReader:
    """The decompressed bytes of a binary stream of frames. Reading raises EOFError, zstandard.ZstdError."""
    import zstandard

    whole: Any = _WholeFrames(raw)
    return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(whole, read_across_frames=True), _CHUNK)


class _WholeFrames:
    """A stream that raises EOFError where it ends within a frame."""

    def __init__(self, raw: Any) -> None:
        self._raw, self._walk = raw, _frames()
        self._wanted, self._part = next(self._walk), b""
        self._is_between = True

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        if data:
            self._follow(data)
        elif size and not self._is_between:
            raise EOFError("it ends within a frame")
        return data

    def _follow(self, data: bytes) -> None:
        place = 0
        while place < len(data):
            count, is_needed, _ = self._wanted
            taken = data[place : place + count - len(self._part)] if is_needed else b""
            length = len(taken) if is_needed else min(count, len(data) - place)
            place += length
            self._part += taken
            if is_needed and len(self._part) < count:
                self._is_between = False
                return
            if not is_needed and length < count:
                self._wanted = (count - length, False, False)
                self._is_between = False
                return
            self._wanted, self._part = self._walk.send(self._part), b""
            while self._wanted[0] == 0:
                self._wanted = self._walk.send(b"")
            self._is_between = self._wanted[2]


# (bytes, whether they are looked at, whether a file may end before them).
_Wanted = tuple[int, bool, bool]


def _frames() -> Generator[_Wanted, bytes, None]:
    """Asks for bytes, and gets those that it wants to look at."""
    number = lambda data: int.from_bytes(data, "little")
    while True:
        magic = number((yield 4, True, True))
        if magic >> 4 == _SKIPPED_MAGIC:
            yield number((yield 4, True, False)), False, False
            continue
        if magic != _MAGIC:  # the library says so
            while True:
                yield 1 << 62, False, True
        described = (yield 1, True, False)[0]
        single, checksum = described >> 5 & 1, described >> 2 & 1
        sizes = (0, 1, 2, 4)[described & 3] + (single, 2, 4, 8)[described >> 6] + (1 - single)
        yield sizes, False, False
        last = 0
        while not last:
            block = number((yield 3, True, False))
            last, is_run = block & 1, block >> 1 & 3 == 1
            yield 1 if is_run else block >> 3, False, False
        yield 4 * checksum, False, False
