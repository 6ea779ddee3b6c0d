"""Reads .xz and .lzma as the standard library does, but for two things: the memory that a file may ask for is bounded,
and a damaged second stream is an error, where ``lzma.LZMAFile`` takes it for the end."""

from __future__ import annotations

import io
import lzma
from typing import Any

_MEMORY = 192 << 20  # bytes; `xz -9` needs 65 MiB, a window of 128 MiB some more than that
_CHUNK = 1 << 18


class XzReader(io.RawIOBase):
    """The decompressed bytes of a binary stream, one or more streams of xz after one another.

    Raises EOFError where it is cut short, lzma.LZMAError where it is damaged or asks for too much memory.
    """

    def __init__(self, raw: Any) -> None:
        self._raw, self._decompressor = raw, self._next_stream()

    def _next_stream(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        room = memoryview(buffer).cast("B")
        while len(room):
            given = b""
            if self._decompressor.eof:
                given = self._after_padding(self._decompressor.unused_data)
                if not given:
                    return 0
                self._decompressor = self._next_stream()
            elif self._decompressor.needs_input:
                given = self._raw.read(_CHUNK)
                if not given:
                    raise EOFError("it ends within a stream")
            made = self._decompressor.decompress(given, len(room))
            if made:
                room[: len(made)] = made
                return len(made)
        return 0

    def _after_padding(self, rest: bytes) -> bytes:
        """What follows the zeros that may stand between streams; b"" at the end of the file."""
        while not (rest := rest.lstrip(b"\0")):
            rest = self._raw.read(_CHUNK)
            if not rest:
                return b""
        return rest
