"""SIGTERM in a step; in a save, while compiling, and to one of two processes are slow."""

import pytest
from signals import sigterm


@pytest.mark.parametrize("count", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_stopped_run_has_saved_and_goes_on(count):
    result = sigterm(count, seed=0)
    assert result.ok, result.failures
