"""Standard streams that hold, whoever has closed them, cannot show a character, or no longer reads."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class Lasting(io.TextIOBase):
    """A text stream that swallows what nobody can read any more: its file is full, its terminal or pipe is gone."""

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
            # What is still buffered would fail again at every write and at the interpreter's end.
            with contextlib.suppress(OSError, ValueError):
                forget(self._stream)
            return None


def forget(stream: TextIO) -> None:
    """Lets the rest of what goes to a file go nowhere. Raises OSError, ValueError where the stream has no file."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


@contextlib.contextmanager
def lasting(*names: str) -> Iterator[None]:
    """For the block the streams of ``sys`` with these names ("stdout", "stderr") never raise."""
    before = {name: getattr(sys, name) for name in names}
    for name, stream in before.items():
        _take_any_character(stream)
        setattr(sys, name, Lasting(stream))
    try:
        yield
    finally:
        for name, stream in before.items():
            Lasting(stream).flush()
            setattr(sys, name, stream)


@contextlib.contextmanager
def ready() -> Iterator[None]:
    """What every command begins with: standard files that are open, streams that are there and take any character;
    a standard error that goes away ends nothing."""
    open_standard_files()
    _take_any_character(sys.stdout)
    with lasting("stderr"):
        yield


def open_standard_files() -> None:
    """Opens the standard files that whoever started the process has closed (``>&-``) on nothing.

    The next file to be opened would else become standard output: a checkpoint with the run's messages in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", errors="backslashreplace", closefd=False))  # noqa: SIM115


def _take_any_character(stream: TextIO | None) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
