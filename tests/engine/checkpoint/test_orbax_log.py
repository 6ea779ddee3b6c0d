"""What is left out of what Orbax prints, and what is not."""

import logging
import sys
from types import SimpleNamespace

import pytest

from bertjax.engine.checkpoint import orbax_log


@pytest.fixture
def quiet(monkeypatch):
    """The errors that reach the hook that was there before."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_value))
    orbax_log.quieten()
    orbax_log.quieten()
    return seen


def logged(path, exc_info):
    record = logging.LogRecord("absl", logging.ERROR, path, 1, "failed", (), exc_info)
    return all(check(record) for check in logging.getLogger("absl").filters)


def test_only_orbax_own_tracebacks_are_left_out(quiet):
    error = (OSError, OSError("full"), None)
    assert not logged("/lib/orbax/checkpoint/future.py", error)
    assert logged("/lib/orbax/checkpoint/future.py", None) and logged("/lib/jax/lax.py", error)


def test_only_late_writes_are_left_out_of_errors_that_nobody_can_catch(quiet):
    said = "Event loop is closed"
    others = [(RuntimeError("another"), None), (ValueError(said), None), (RuntimeError(said), "a destructor")]
    for error, named in [(RuntimeError(said), None), *others]:
        sys.unraisablehook(SimpleNamespace(exc_type=type(error), exc_value=error, object=named))
    assert quiet == [error for error, _ in others]
