"""A prepared corpus that is not what its manifest says."""

import corpora
import pytest


@pytest.mark.parametrize("number", range(len(corpora.SHORT)), ids=corpora.SHORT)
def test_it_is_refused_before_the_first_step(number):
    result = corpora.tried_like(corpora.SHORT[number], seed=0)
    assert result.ok, result.failures
