"""Where a run stands: the best evaluation, and the way back after a setback."""

import pytest

from bertjax.errors import Diverged
from bertjax.finetune.position import Position

CONSTANTS = {"identity": "a", "random": "b", "versions": {}}
STATE: object = object()


def checkpoint(position):
    return position.step, STATE, CONSTANTS | position.record()


def test_the_first_of_equal_scores_is_the_best():
    here = Position(STATE)
    for step, score, is_best in ((5, 0.5, True), (10, 0.7, True), (15, 0.7, False), (20, 0.6, False)):
        here.step = step
        assert here.evaluated(score) == is_best
    assert here.best == {"step": 10, "score": 0.7} and here.since_best == 2
    again = Position.from_checkpoint(*checkpoint(here), CONSTANTS)
    assert again.record() == here.record()


def test_after_a_setback_other_batches_come():
    here = Position(STATE, step=30)
    saved = checkpoint(Position(STATE, step=20))
    here.go_back(saved, CONSTANTS, "it went wrong")
    # Batches 0 .. 29 were used; the next update is the 21st and takes batch 30.
    assert (here.step, here.offset) == (20, 10) and here.step + here.offset == 30
    assert here.skipped == [{"step": 20, "reason": "it went wrong", "from": 20, "to": 30}]
    with pytest.raises(Diverged, match="to go back to step 20 has not helped"):
        here.go_back(saved, CONSTANTS, "again")


def test_without_a_checkpoint_there_is_no_way_back():
    with pytest.raises(Diverged, match="no checkpoint to go back to"):
        Position(STATE).go_back(None, CONSTANTS, "bad")
