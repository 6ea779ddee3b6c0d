"""Corpus files that change while they are read, as often as an ordinary run of the tests bears."""

import replaced


def test_a_corpus_is_what_its_fingerprint_says():
    result = replaced.replaced(40, seed=0)
    assert result.ok, result.failures
    # Both ends have been seen: else the changes came too late, or nothing was ever kept.
    assert int(result.figures["refused"]) > 5 and int(result.figures["kept"]) > 5
