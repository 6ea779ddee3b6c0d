"""What every command shares: a mistake becomes one line and an exit code.

Exit codes: 0 done; 2 usage or config; 3 data, model files or checkpoints; 4 the run diverged or failed its own checks;
71 another process was lost or stalled, run again to go on from the last checkpoint; 75 stopped with everything
safe, run again to go on.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TextIO

from bertjax.config import ConfigError
from bertjax.memory import host_memory
from bertjax.showing import note, say
from bertjax.streams import Lasting, forget, open_standard_files, ready

# A full disk, a quota, a limit on a file's size, a folder that may not be written to, a file in the place of a folder
# or the other way round, a server that has lost it: no traceback helps there.
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
_CANNOT_WRITE += (errno.ENOTDIR, errno.EISDIR, errno.ESTALE)

UNKNOWN, USAGE, DATA, DIVERGED, LOST, STOPPED = 1, 2, 3, 4, 71, 75
INTERRUPTED = 130  # by Ctrl-C, as shells have it; training saves and stops instead

# glibc's mallopt(3): how many heaps there are, how many blocks are mappings of their own, how much free memory at the
# end of a heap goes back to the system.
_M_ARENA_MAX, _M_MMAP_MAX, _M_TRIM_THRESHOLD = -8, -4, -1
# Bytes of free memory: an eighth of what there is, as what long rows free is what the next short ones need again,
# and at most what mallopt takes.
_KEPT_PART, _KEPT_AT_MOST = 8, (1 << 31) - 1
_ARENAS = 2  # glibc's default is one for every thread, up to eight a core


def fail(message: object, code: int) -> int:
    """Prints one line on standard error and returns the exit code."""
    note(f"error: {' '.join(str(message).split())}")
    return code


def exit_code(error: BaseException) -> int:
    """The exit code of an error; ``UNKNOWN`` for one that nobody has foreseen."""
    from bertjax.data.files import DataError
    from bertjax.interop import ModelFileError
    from bertjax.parallel.processes import Lost
    from bertjax.parallel.progress import Stalled
    from bertjax.train import CheckpointError, Diverged, Stopped

    codes = {
        Lost: LOST,
        Stalled: LOST,
        ConfigError: USAGE,
        DataError: DATA,
        ModelFileError: DATA,
        CheckpointError: DATA,
    }
    codes |= {Diverged: DIVERGED, Stopped: STOPPED}
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        return DATA
    return next((code for kind, code in codes.items() if isinstance(error, kind)), UNKNOWN)


def _said(error: OSError) -> str:
    place = "" if error.filename is None else f" {error.filename}"  # a write knows no name, an open does
    what = "cannot open" if error.errno in (errno.EACCES, errno.EPERM) else "cannot write"
    return f"{what}{place}: {error.strerror or error}"


def guarded(job: Callable[[], object]) -> int:
    """Runs ``job`` and returns the exit code; known mistakes become one line, unknown ones keep their traceback."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: note(f"warning: {message}")
            job()
    except Exception as error:
        code = exit_code(error)
        if code == UNKNOWN:
            raise
        if code != STOPPED:
            return fail(_said(error) if isinstance(error, OSError) else error, code)
        say(error)
        return code
    return 0


def printing(job: Callable[[], int]) -> int:
    """The exit code of a job whose results go to standard output, which may be closed, full or narrow."""
    try:
        with ready():
            code = job()
            sys.stdout.flush()
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except OSError as error:
        if error.filename is not None:  # not of standard output
            raise
        # Standard output is closed or full; the interpreter would complain again when it flushes it at its end.
        forget(sys.stdout)
        has_enough = isinstance(error, BrokenPipeError)  # whoever reads, as in "| head"
        return 0 if has_enough else fail(_said(error), DATA)
    return code


def show_help(text: str, asked: bool) -> int:
    """Prints how a command is used; the exit code. asked: whether that was what the user wanted."""

    def show() -> int:
        print(text)
        return 0 if asked else USAGE

    return printing(show)


def share_heaps() -> None:
    """Lets all threads to come allocate from the same few heaps, where the C library is glibc and nobody has set
    MALLOC_ARENA_MAX.

    A save goes through dozens of threads, each of which would leave free memory in a heap of its own: a run that saves
    every minute would hold more and more, by 60 MB at a time.
    """
    _set_heaps({_M_ARENA_MAX: _ARENAS})


def keep_memory() -> None:
    """Lets the process keep what it frees for what it allocates next, in one heap; of the same C library, and where
    nobody has set MALLOC_ARENA_MAX.

    By default blocks of more than 32 MB come from the system at every allocation and go back to it when they are
    freed: a short step on a CPU spends a sixth of its time on the pages of its gradients and temporaries.
    """
    if sys.platform == "linux":
        kept = min(host_memory() // _KEPT_PART, _KEPT_AT_MOST)
        _set_heaps({_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: kept})


def _set_heaps(settings: Mapping[int, int]) -> None:
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError):  # another C library
            for name, value in settings.items():
                ctypes.CDLL(None).mallopt(name, value)


def run_as_process(main: Callable[[], int]) -> NoReturn:
    """Runs a command and ends the process with its exit code."""
    open_standard_files()
    try:
        code = main()
    except KeyboardInterrupt:  # before the command's own work began
        code = fail("interrupted", INTERRUPTED)
    leave(code)


def leave(code: int) -> NoReturn:
    """Ends the process. After an error at once: a library's thread that never ends must not keep it."""
    for stream in (sys.stdout, sys.stderr):
        Lasting(stream).flush()
    if code:
        os._exit(code)
    sys.exit(0)


class NumberedLines(io.TextIOBase):
    """A text stream whose lines begin with the number of the process that writes them."""

    def __init__(self, stream: TextIO, number: int):
        self._stream, self._mark, self._at_start = stream, f"[{number}] ", True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            self._stream.write(self._mark + line if self._at_start else line)
            self._at_start = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()


class ArgumentParser(argparse.ArgumentParser):
    """argparse whose mistakes are one line and exit code 2."""

    def __init__(self, prog: str, description: str = "", epilog: str = "", **settings: Any):
        super().__init__(
            prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **settings,
        )

    def error(self, message: str) -> NoReturn:
        sys.exit(fail(f"{message}; see {self.prog} --help", USAGE))

    def run(self, argv: list[str] | None, job: Callable[[argparse.Namespace], int]) -> int:
        """The exit code of ``job`` on the parsed options, or of what was wrong with them."""
        return printing(lambda: self._run(argv, job))

    def _run(self, argv: list[str] | None, job: Callable[[argparse.Namespace], int]) -> int:
        try:
            options = self.parse_args(argv)
        except SystemExit as stop:  # after the help, too
            return int(stop.code or 0)
        return job(options)
