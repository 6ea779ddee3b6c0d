"""Rollbacks past damaged checkpoints, as often as an ordinary run of the tests bears; the catalogue tries more."""

import rollbacks


def test_a_run_goes_on_or_ends_with_one_line():
    result = rollbacks.rollbacks(6, seed=0)  # in one process
    assert result.ok, result.failures
    assert "went on" in result.figures
