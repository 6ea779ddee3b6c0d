"""Somebody's files where a run is to live."""

import belongings


def test_they_are_told_or_left_as_they_are():
    result = belongings.belongings(3, seed=0)
    assert result.ok, result.failures
