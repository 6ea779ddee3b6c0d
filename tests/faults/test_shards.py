"""A prepared corpus that is not what its manifest says."""

import pytest
import shards


@pytest.mark.parametrize("number", range(len(shards.SHORT)), ids=shards.SHORT)
def test_it_is_refused_before_the_first_step(number):
    result = shards.tried_like(shards.SHORT[number], seed=0)
    assert result.ok, result.failures
