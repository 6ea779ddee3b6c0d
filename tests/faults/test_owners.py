"""Two jobs on one workdir."""

import owners


def test_the_second_is_refused_at_once_and_a_dead_owner_holds_nothing():
    result = owners.owners(1, seed=0, clock=owners.processor)  # other tests keep the machine busy
    assert result.ok, result.failures


def test_of_two_that_start_together_one_is_refused():
    result = owners.owners(1, seed=4)
    assert result.ok, result.failures
