"""What every command shares: a mistake becomes one line and an exit code (``bertjax.errors``)."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from bertjax.cli.showing import note, say
from bertjax.cli.streams import Lasting, forget, open_standard_files, ready
from bertjax.errors import DATA, INTERRUPTED, STOPPED, UNKNOWN, USAGE, exit_code


def fail(message: object, code: int) -> int:
    """Prints one line on standard error and returns the exit code."""
    note(f"error: {' '.join(str(message).split())}")
    return code


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
