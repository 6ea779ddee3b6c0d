"""Some seconds of strangers at a run of two processes."""

from strangers import stranger


def test_strangers_change_nothing():
    result = stranger(count=1, seed=0, seconds=5, silent=300)
    assert result.ok, result.failures
