"""Reads regular files: hashed as they are read; line by line, compressed or not, with what is not text replaced.

.gz, .xz, .lzma and .zst are decompressed as streams, within bounded memory. A file that ends early is an error.
"""

import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from bertjax.data.corpus.encodings import BYTE_ORDER_MARK, MARK, SAMPLE_BYTES, Decoded, iconv, wide_encoding
from bertjax.errors import DataError

# A longer line of a text file is read as several lines; a longer line of JSON is skipped.
LONGEST_LINE = 64 << 20
_CHUNK = 1 << 20
_COMPRESSED = (".gz", ".xz", ".lzma", ".zst")
_MEMORY = 192 << 20  # bytes; `xz -9` needs 65 MiB, a window of 128 MiB a little more than that
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
_UNREADABLE = (EOFError, OSError, lzma.LZMAError, zlib.error)


class Content(NamedTuple):
    """Of a file: hex SHA-256, and size in bytes."""

    sha256: str
    size: int


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is read into a DataError of one line."""
    try:
        yield
    except _UNREADABLE as error:
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
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    what = (kinds | {stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}).get(stat.S_IFMT(mode))
    if what is not None:
        raise DataError(f"{path} is {what}, not a file; copy its output to a file first")


class HashedFile(io.RawIOBase):
    """The bytes of a file, hashed as they are read, up to its size when it was opened, or up to ``expected.size``.
    ``count``: bytes read so far. expected: its content when it was hashed; what was appended since is not read."""

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


@dataclass
class Report:
    """What was found while reading. ``bytes_read``: of the files, before decompression. source: counts of the source
    that is being read. damaged: a line for each source with more than a few invalid bytes."""

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
        return self.clean(text, data)

    def take(self, text: str) -> str:
        """``clean`` for text that was not decoded here."""
        self.source.read += len(text.encode("utf-8", "surrogatepass"))
        return self.clean(text)

    def clean(self, text: str, data: bytes | None = None) -> str:
        """``text`` with NULs and lone surrogates replaced by U+FFFD and counted, without byte order marks. data: the
        bytes it was decoded from, if they are known."""
        given = text
        if BYTE_ORDER_MARK in text:  # in the middle, where files were joined
            text = text.replace(BYTE_ORDER_MARK, "")
        if not text.isascii() or "\0" in text:
            self.source.nuls += text.count("\0")
            text, count = _NOT_TEXT.subn(_REPLACEMENT, text)
            if count:
                self._replaced(count, _bytes_of(given) if data is None else data)
        return text

    def _replaced(self, count: int, data: bytes) -> None:
        self.source.sample += data[: SAMPLE_BYTES - len(self.source.sample)]
        self.replaced_bytes += count
        self.source.replaced += count


def _bytes_of(text: str) -> bytes:
    """The bytes that a text was read from, if its surrogates are Python's for bytes that could not be decoded."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def lines(path: Path, report: Report, expected: Content | None = None) -> Iterator[bytes]:
    """The lines of a file without their line break, decompressed by its ending (.gz, .xz, .zst).

    A line ends at LF or CR LF, or at CR in a file that begins without any LF; a byte order mark before a line is
    skipped. A line longer than LONGEST_LINE comes in pieces of that size. ``expected``: the content when the file was
    hashed; what was appended since is not read. Raises DataError if it cannot be read, has changed, or is not UTF-8 but
    UTF-16 or UTF-32.
    """
    with opened(path) as file:
        raw = HashedFile(path, file, expected)
        before, first = report.bytes_read, True
        with decompressed(path, io.BufferedReader(raw, _CHUNK)) as stream:
            for line in _lines(path, stream, raw):
                report.bytes_read = before + raw.count
                # At the start, and where files were joined; a table cell that is just a mark stays.
                while line.startswith(MARK) and (first or not line.startswith(MARK + b"\t")):
                    line = line[len(MARK) :]
                first = False
                yield line.rstrip(b"\r\n")
            raw.finish()


def _lines(path: Path, given: io.BufferedReader, raw: HashedFile) -> Iterator[bytes]:
    try:
        stream, head = given, given.peek(_CHUNK)
        if encoding := wide_encoding(head):
            kind = encoding.removesuffix("LE").removesuffix("BE")
            raise DataError(f"{path}:1: the file is {kind}; save it as UTF-8: {iconv(path, encoding)}")
        # A file from an old Mac: every line ends in a carriage return alone.
        if b"\r" in head[:-1] and b"\n" not in head:
            feeds = (chunk.replace(b"\r", b"\n") for chunk in iter(lambda: given.read1(_CHUNK), b""))
            stream = io.BufferedReader(_Chunks(feeds), _CHUNK)
        while line := stream.readline(LONGEST_LINE):
            yield line
    except _UNREADABLE:
        raw.finish()  # if the file was replaced while it was read, say that instead
        raise


class _Chunks(io.RawIOBase):
    """A stream of the bytes in ``chunks``, none of which is empty."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        chunk = self._rest or next(self._chunks, b"")
        given, self._rest = chunk[: len(buffer)], chunk[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def ending(path: Path) -> str:
    """The ending that says what is in a file, in lower case, without that of its compression: ".tsv" of x.tsv.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def decompressed(path: Path, raw: io.BufferedReader) -> io.BufferedReader:
    """The bytes of ``raw``, decompressed by the ending of ``path``. Reading it raises EOFError, lzma.LZMAError,
    zlib.error, or OSError without a number if the data is damaged, ends early or asks for too much memory."""
    match path.suffix.lower():
        case ".gz":
            return io.BufferedReader(gzip.GzipFile(fileobj=raw), _CHUNK)  # pyright: ignore[reportArgumentType]
        case ".xz" | ".lzma":
            return io.BufferedReader(_Chunks(_xz_chunks(raw)), _CHUNK)
        case ".zst":
            import pyarrow as pa  # zstandard takes the end of the file within a frame for the end of the text

            return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"), _CHUNK)
    return raw


def _xz_chunks(raw: io.BufferedReader) -> Iterator[bytes]:
    """The bytes of one or more streams of xz. Unlike ``lzma.LZMAFile``, it bounds the memory that a file may ask for,
    and a damaged second stream is an error, not the end."""
    given = b""
    while True:
        decompressor = lzma.LZMADecompressor(memlimit=_MEMORY)
        while not decompressor.eof:
            if decompressor.needs_input and not given:
                given = raw.read(_CHUNK)
                if not given:
                    raise EOFError("it ends within a stream")
            made = decompressor.decompress(given, _CHUNK)
            given = b""
            if made:
                yield made
        given = decompressor.unused_data.lstrip(b"\0")
        while not given:  # zeros may stand between streams
            padding = raw.read(_CHUNK)
            if not padding:
                return
            given = padding.lstrip(b"\0")
