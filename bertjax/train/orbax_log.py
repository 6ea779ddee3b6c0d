"""What Orbax and its storage print of failures that the run tells in one line of its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import TracebackType

_Hook = Callable[[type[BaseException], BaseException, TracebackType | None], object]


def quieten() -> None:
    """Leaves out the tracebacks of an error that is also raised: those that Orbax's threads log, and those of writes
    that come to their end after the first failed one, when nobody waits for them any more."""
    logging.getLogger("absl").addFilter(_is_not_told_twice)
    if not isinstance(sys.excepthook, _WithoutLateWrites):
        sys.excepthook = _WithoutLateWrites(sys.excepthook)


def _is_not_told_twice(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "orbax" in record.pathname)


class _WithoutLateWrites:
    """The hook that prints uncaught errors, without those of tensorstore's callbacks into a loop that has ended."""

    def __init__(self, before: _Hook):
        self._before = before

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not (kind is RuntimeError and str(error) == "Event loop is closed"):
            self._before(kind, error, trace)
