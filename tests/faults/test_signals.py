"""SIGTERM in a step, in a save, while compiling, and to one of two processes."""

from signals import sigterm


def test_a_stopped_run_has_saved_and_goes_on():
    result = sigterm(count=4, seed=0)
    assert result.ok, result.failures
