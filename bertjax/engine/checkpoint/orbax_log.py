"""Silences what Orbax and its storage print about failures that the run reports in one line of its own."""

import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any


def quieten() -> None:
    """Leaves out the tracebacks of an error that is also raised: those that Orbax's threads log, and those of writes
    that end after the first failed one, when nobody waits for them any more."""
    logging.getLogger("absl").addFilter(_is_reported_once)
    if getattr(sys.unraisablehook, "func", None) is not _without_late_writes:
        sys.unraisablehook = partial(_without_late_writes, sys.unraisablehook)


def _is_reported_once(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "orbax" in record.pathname)


def _without_late_writes(before: Callable[[Any], object], unraisable: Any) -> None:
    """Passes on errors that nobody can catch, except those of tensorstore's callbacks into a loop that has ended. They
    name no object; a coroutine or a destructor of ours would be named."""
    is_late = unraisable.object is None and str(unraisable.exc_value) == "Event loop is closed"
    if not (is_late and unraisable.exc_type is RuntimeError):
        before(unraisable)
