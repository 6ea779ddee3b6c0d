"""Where a trial is: the best evaluation, the next batch, and the way back after a rollback."""

import pytest

from bertjax.engine.position import Best, RunPosition
from bertjax.errors import ConfigError, Diverged
from bertjax.finetune.trial import NextBatch, records

RECORDS = records({"task": "classification"}, seed=3, versions={})
STATE: object = object()


def saved(here, postponed=False):
    return RECORDS.position((here.step, STATE, {**RECORDS.constants, **RECORDS.changes(here, 0.5, postponed)}))


def test_the_first_of_equal_scores_is_the_best():
    here = RunPosition(STATE, NextBatch(22))
    for step, score, is_best in ((5, 0.5, True), (10, 0.7, True), (15, 0.7, False), (20, 0.6, False)):
        here.step, here.best = step, here.best.after(step, score)
        assert (here.best.step == step) == is_best
    assert here.best == Best(10, 0.7, evaluations_since=2)
    assert RECORDS.changes(here, 0.5, False) == {
        "step": 20,
        "offset": 2,
        "totals": {"seconds": 0.0, "real_tokens": 0},
        "skipped": [],
        "best": {"step": 10, "score": 0.7},
        "since_best": 2,
        "held_out_loss": 0.5,
        "evaluation_due": False,
    }
    assert saved(here) == here and saved(here, postponed=True).postponed


def test_after_a_rollback_other_batches_come():
    here = RunPosition(STATE, NextBatch(30), step=30)
    before = saved(RunPosition(STATE, NextBatch(20), step=20))
    here.roll_back(before, "it went wrong")
    # Batches 0 .. 29 were used; the next update is the 21st and takes batch 30.
    assert (here.step, here.data) == (20, NextBatch(30)) and here.data.record(here.step) == {"offset": 10}
    assert here.skipped == [{"step": 20, "reason": "it went wrong", "from": 20, "to": 30}]
    with pytest.raises(Diverged, match="already rolled back to step 20, the last checkpoint, without success"):
        here.roll_back(before, "again")


def test_without_a_checkpoint_there_is_no_way_back():
    with pytest.raises(Diverged, match="no checkpoint to go back to"):
        RunPosition(STATE, NextBatch()).roll_back(None, "bad")


def test_a_checkpoint_of_another_run_is_refused():
    other = records({"task": "tagging"}, seed=3, versions={})
    with pytest.raises(ConfigError, match="the checkpoint of step 0 is of another run: identity is"):
        other.position(
            (0, STATE, {**RECORDS.constants, **RECORDS.changes(RunPosition(STATE, NextBatch()), None, False)})
        )


def test_a_record_of_earlier_versions_is_read():
    """As version 0.1 wrote it: the keys on disk stay, and whether an evaluation is due was not always among them."""
    before = {
        "identity": RECORDS.constants["identity"],
        "random": {"data": "counter hash", "dropout": "counter hash", "initial weights": "threefry", "seed": 3},
        "versions": {"bertjax": "0.1.0", "jax": "0.10.2"},
        "step": 20,
        "offset": 3,
        "totals": {"seconds": 4.5, "real_tokens": 900},
        "best": {"step": 19, "score": 0.5},
        "since_best": 1,
        "skipped": [{"step": 8, "reason": "bad", "from": 8, "to": 11}],
        "held_out_loss": None,
    }
    here = RECORDS.position((20, STATE, before))
    assert (here.step, here.data, here.best, here.postponed) == (20, NextBatch(23), Best(19, 0.5, 1), False)
    assert here.skipped == before["skipped"] and here.totals == before["totals"]
    assert RECORDS.position((20, STATE, before | {"evaluation_due": True, "best": None})).postponed
