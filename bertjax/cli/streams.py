"""Standard streams that survive being closed, a full disk, readers that leave, and characters they cannot encode."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class LastingStream(io.TextIOBase):
    """A text stream that drops output which cannot be written: its file is full, its terminal or pipe is gone."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        self._try("flush")

    def isatty(self) -> bool:
        return bool(self._try("isatty"))

    def fileno(self) -> int:
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def _try(self, what: str, *arguments: Any) -> Any:
        if self._stream is None:
            return None
        try:
            return getattr(self._stream, what)(*arguments)
        except (OSError, ValueError):
            # The buffer would fail again at every write and when the interpreter exits.
            with contextlib.suppress(OSError, ValueError):
                discard_output(self._stream)
            return None


def discard_output(stream: TextIO) -> None:
    """Redirects a stream's file to nowhere. Raises OSError or ValueError if the stream has no file."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


@contextlib.contextmanager
def prepared_streams(*lasting: str) -> Iterator[None]:
    """Within the block "stdout" and "stderr" exist and take any character; those that are ``lasting`` never raise."""
    open_standard_files()
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in before.items():
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        if name in lasting:
            setattr(sys, name, LastingStream(stream))
    try:
        yield
    finally:
        for name in lasting:
            LastingStream(before[name]).flush()
            setattr(sys, name, before[name])


def open_standard_files() -> None:
    """Opens standard files that the parent process has closed (``>&-``) on /dev/null. Otherwise the next file opened
    becomes standard output, and a checkpoint gets the run's messages."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", errors="backslashreplace", closefd=False))  # noqa: SIM115
