"""Silences what Orbax and its storage print about failures that the run reports in one line of its own."""

import logging
import sys
from collections.abc import Callable
from typing import Any


def quieten() -> None:
    """Leaves out the tracebacks of an error that is also raised: those that Orbax's threads log, and those of writes
    that come to their end after the first failed one, when nobody waits for them any more."""
    logging.getLogger("absl").addFilter(_is_not_told_twice)
    if not isinstance(sys.unraisablehook, _WithoutLateWrites):
        sys.unraisablehook = _WithoutLateWrites(sys.unraisablehook)


def _is_not_told_twice(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "orbax" in record.pathname)


class _WithoutLateWrites:
    """The hook for errors that nobody can catch, without those of tensorstore's callbacks into a loop that has ended.

    They name no object; a coroutine or a destructor of ours would be named.
    """

    def __init__(self, before: Callable[[Any], object]):
        self._before = before

    def __call__(self, unraisable: Any) -> None:
        is_late = unraisable.object is None and str(unraisable.exc_value) == "Event loop is closed"
        if not (is_late and unraisable.exc_type is RuntimeError):
            self._before(unraisable)
