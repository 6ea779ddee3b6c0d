"""Some seconds of the soak."""

from soak import soak


def test_a_run_that_is_ended_again_and_again():
    result = soak(count=2, seed=0, seconds=5)
    assert result.ok, result.failures
