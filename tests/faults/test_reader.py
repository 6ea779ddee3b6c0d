"""Errors in the thread that reads ahead."""

import pytest
import reader


@pytest.mark.parametrize("seed", range(len(reader.TROUBLES)), ids=[name.replace(" ", "-") for name in reader.TROUBLES])
def test_it_ends_the_process_and_the_next_start_goes_on(seed):
    result = reader.reader(1, seed)
    assert result.ok, result.failures
