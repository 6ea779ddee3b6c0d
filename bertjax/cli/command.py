"""What every command shares: errors as one line and an exit code (``bertjax.errors``), options, their numbers."""

import argparse
import contextlib
import errno
import math
import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from bertjax.cli.showing import note, say
from bertjax.cli.streams import LastingStream, discard_output, open_standard_files, prepared_streams
from bertjax.errors import DATA, INTERRUPTED, STOPPED, UNKNOWN, USAGE, exit_code

_MOST_DIGITS = 18  # within 64 bits


def fail(message: object, code: int) -> int:
    note(f"error: {' '.join(str(message).split())}")
    return code


def _os_error(error: OSError) -> str:
    place = "" if error.filename is None else f" {error.filename}"  # open() sets the name, write() does not
    what = "cannot open" if error.errno in (errno.EACCES, errno.EPERM) else "cannot write"
    return f"{what}{place}: {error.strerror or error}"


def guarded(job: Callable[[], object]) -> int:
    """Runs ``job`` and returns the exit code; expected errors become one line, others keep their traceback."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: note(f"warning: {message}")
            job()
    except Exception as error:
        code = exit_code(error)
        if code == UNKNOWN:
            raise
        if code != STOPPED:
            return fail(_os_error(error) if isinstance(error, OSError) else error, code)
        say(error)
        return code
    return 0


def printing(job: Callable[[], int]) -> int:
    """The exit code of a job that prints to standard output, which may be closed, full or limited in characters."""
    try:
        with prepared_streams("stderr"):
            code = job()
            sys.stdout.flush()
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except OSError as error:
        if error.filename is not None:  # not about standard output
            raise
        # Closed or full. Without this the interpreter fails again when it flushes at exit.
        discard_output(sys.stdout)
        return 0 if isinstance(error, BrokenPipeError) else fail(_os_error(error), DATA)  # a pipe such as "| head"
    return code


def show_help(text: str, asked: bool) -> int:
    """Prints a command's help; returns the exit code. asked: whether the user asked for it."""
    return printing(lambda: print(text) or (0 if asked else USAGE))


def run_as_process(main: Callable[[], int]) -> NoReturn:
    open_standard_files()
    try:
        code = main()
    except KeyboardInterrupt:  # before the command's own work began
        code = fail("interrupted", INTERRUPTED)
    leave(code)


def leave(code: int) -> NoReturn:
    """Ends the process; after an error without waiting for threads of libraries, which may never end."""
    for stream in (sys.stdout, sys.stderr):
        LastingStream(stream).flush()
    if code:
        os._exit(code)
    sys.exit(0)


class ArgumentParser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line and exit code 2. doc: a command's docstring: what it does, in a
    paragraph, and what the help says after the options."""

    def __init__(self, prog: str, doc: str | None = "", **settings: Any):
        description, _, epilog = (doc or "").partition("\n\n")
        settings = {"description": description, "epilog": epilog, **settings}
        super().__init__(prog, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        sys.exit(fail(f"{message}; see {self.prog} --help", USAGE))

    def run(self, argv: list[str] | None, job: Callable[[argparse.Namespace], int]) -> int:
        """Parses the options and runs ``job`` on them; returns its exit code, or that of an error in the options."""

        def parse_and_run() -> int:
            try:
                options = self.parse_args(argv)
            except SystemExit as stop:  # also after --help
                return int(stop.code or 0)
            return job(options)

        return printing(parse_and_run)


def whole_number(text: str) -> int | None:
    """The number that ``text`` spells; None for anything else, including other digits or too many of them."""
    return int(text) if re.fullmatch(f"[0-9]{{1,{_MOST_DIGITS}}}", text) else None


def integer(text: str) -> int:
    if not re.fullmatch(f"[+-]?[0-9]{{1,{_MOST_DIGITS}}}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number in the digits 0 to 9, not {text[:40]!r}")
    return int(text)


def number_in(low: float, high: float) -> Callable[[str], float]:
    """The type of a command's options: a number from ``low`` to ``high``."""

    def number(text: str) -> float:
        value = math.nan
        with contextlib.suppress(ValueError):
            value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low:g} to {high:g}, not {text!r}")
        return value

    return number


def has_other_digits(text: str) -> bool:
    """Whether Python would read this as a number although it has digits other than 0 to 9."""
    return not text.isascii() and re.fullmatch(r"[+-]?[\d_]*\.?[\d_]*([eE][+-]?[\d_]+)?", text) is not None
