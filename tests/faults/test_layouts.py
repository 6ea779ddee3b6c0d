"""A run that moves between one device, two, and two processes."""

import pytest
from layouts import layouts


@pytest.mark.slow
def test_a_moved_run_is_the_same_run():
    result = layouts(count=1, seed=0, places=((1, 1), (1, 2), (2, 1)))
    assert result.ok, result.failures
