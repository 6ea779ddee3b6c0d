"""A disk that is full, files that may not grow, folders that may not be written to: a case of each."""

import disk
import pytest


@pytest.mark.parametrize("case", disk.SHORT, ids=lambda case: case.__name__)
def test_the_last_step_stays_whole_and_the_run_goes_on(case):
    result = disk.tried([case], seed=0)
    if result.tried == 0:
        pytest.skip("nothing may be mounted here")
    assert result.ok, result.failures
