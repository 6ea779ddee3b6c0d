"""SIGKILL at every marked point, and at a random moment."""

from kills import MOMENTS, kill


def test_a_killed_run_ends_as_if_nothing_had_happened():
    result = kill(count=MOMENTS.index("random") + 1, seed=0)
    assert result.ok, result.failures
