"""Exports of damaged workdirs, as often as an ordinary run of the tests bears; the catalogue tries more."""

import exports


def test_nothing_is_exported_wrong():
    result = exports.exports(14, seed=0)  # in one process
    assert result.ok, result.failures
    assert {"refused", "the same"} <= set(result.figures)
