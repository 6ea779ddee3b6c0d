"""SIGTERM and SIGHUP in a step; in a save, while compiling, and to one of two processes are slow."""

import pytest
from signals import sighup, sigterm


@pytest.mark.parametrize("count", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_stopped_run_has_saved_and_goes_on(count):
    result = sigterm(count, seed=0)
    assert result.ok, result.failures


@pytest.mark.parametrize("count", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_closed_terminal_is_a_wish_to_stop(count):
    result = sighup(count, seed=0)
    assert result.ok, result.failures
