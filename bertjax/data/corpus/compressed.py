"""Decompresses .gz, .xz, .lzma and .zst as streams, within bounded memory. A file that ends early is an error."""

import gzip
import io
import lzma
from pathlib import Path
from typing import Any

ENDINGS = (".gz", ".xz", ".lzma", ".zst")
_MEMORY = 192 << 20  # bytes; `xz -9` needs 65 MiB, a window of 128 MiB a little more than that
_CHUNK = 1 << 18
_BUFFER = 1 << 20


def ending(path: Path) -> str:
    """The ending that says what is in a file, in lower case, without that of its compression: ".tsv" of x.tsv.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in ENDINGS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def decompressed(path: Path, raw: io.BufferedReader) -> io.BufferedReader:
    """The bytes of ``raw``, decompressed by the ending of ``path``.

    Reading it raises EOFError, lzma.LZMAError, zlib.error, or OSError without a number if the data is damaged, ends
    early or asks for too much memory.
    """
    match path.suffix.lower():
        case ".gz":
            return io.BufferedReader(gzip.GzipFile(fileobj=raw), _BUFFER)  # pyright: ignore[reportArgumentType]
        case ".xz" | ".lzma":
            return io.BufferedReader(_XzReader(raw), _BUFFER)
        case ".zst":
            import pyarrow as pa  # zstandard takes the end of the file within a frame for the end of the text

            return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"), _BUFFER)
    return raw


class _XzReader(io.RawIOBase):
    """One or more streams of xz. Unlike ``lzma.LZMAFile``, it bounds the memory that a file may ask for, and a damaged
    second stream is an error, not the end."""

    def __init__(self, raw: Any) -> None:
        self._raw, self._decompressor = raw, lzma.LZMADecompressor(memlimit=_MEMORY)

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
                self._decompressor = lzma.LZMADecompressor(memlimit=_MEMORY)
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
