"""A workdir, or a part of it, removed under a running job."""

import removed


def test_the_run_ends_or_goes_on():
    result = removed.removed(1, seed=0)
    assert result.ok, result.failures


def test_a_lock_that_is_gone_does_not_end_it():
    result = removed.removed(1, seed=3)
    assert result.ok, result.failures
