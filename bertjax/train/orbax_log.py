"""What Orbax logs of its failures, which the run tells in one line of its own."""

from __future__ import annotations

import logging


def quieten() -> None:
    """Leaves out the tracebacks that Orbax's threads log of an error that it also raises."""
    logging.getLogger("absl").addFilter(_is_not_told_twice)


def _is_not_told_twice(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "orbax" in record.pathname)
