"""SIGKILL at the first marked points; the others, and random moments, are slow."""

import pytest
from kills import MOMENTS, kill


def test_a_killed_run_ends_as_if_nothing_had_happened():
    result = kill(count=3, seed=0)
    assert result.ok, result.failures


@pytest.mark.slow
def test_a_run_killed_at_any_point_ends_as_if_nothing_had_happened():
    result = kill(count=MOMENTS.index("random") + 1, seed=0)
    assert result.ok, result.failures
