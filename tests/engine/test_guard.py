"""Numbers that go wrong: single bad steps, several in a row, and a run that cannot be helped."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import bertjax.train
from bertjax.config import GuardConfig
from bertjax.engine.checkpoint.record import read_record
from bertjax.engine.guard import MOST_FILES, TRUSTED_AFTER, Guard, Rollback, initial_health, judged
from bertjax.train import pretraining


def quiet(config, workdir, lines=None):
    return bertjax.train.run(config, workdir, say=(lines if lines is not None else []).append)


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().split("\n") if line]


@pytest.fixture
def poison(monkeypatch):
    """``poison(*numbers)``: the batches of these numbers, counted over the whole run, get an infinite weight on their
    way to the devices; the list it returns gets them."""
    place, made = pretraining.to_global, []

    def choose(*numbers):
        count = iter(range(1, 1_000_000))

        def poisoned(batch, mesh):
            # Those of other phases are not counted, and those of the evaluation come after all others.
            if len(batch["input_ids"]) == 16 and batch["input_ids"].shape[1] == 32 and next(count) in numbers:
                batch = batch | {"masked_lm_weights": np.full_like(batch["masked_lm_weights"], np.inf)}
                made.append(batch)
            return place(batch, mesh)

        monkeypatch.setattr(pretraining, "to_global", poisoned)
        return made

    return choose


@pytest.fixture
def config(config):
    """One phase of twelve steps, no evaluation within, a row and a checkpoint often."""
    del config.phases["phase2"]
    config.phases.phase1.steps = 12
    config.phases.phase1.learning_rate = 1e-3
    config.logging.every_steps = 1
    config.checkpoint.every_steps = 4
    config.evaluation.max_rows = 8
    return config


def test_one_bad_step_is_skipped_and_its_batch_kept(poison, config, tmp_path):
    poisoned = poison(6)
    lines = []
    summary = quiet(config, tmp_path, lines)
    assert np.isfinite(summary["held_out"]["mlm_loss"]) and summary["steps"] == 12
    assert [row["step"] for row in rows(tmp_path) if row["kind"] == "train"] == list(range(1, 13))
    (event,) = [row for row in rows(tmp_path) if row["kind"] == "event"]
    assert (event["event"], event["step"]) == ("skipped", 6)
    with np.load(event["batch"]) as kept:  # no pickle in it
        assert all(np.array_equal(kept[name], field) for name, field in poisoned[0].items())
    (line,) = [line for line in lines if "was skipped" in line]
    assert "step 6" in line and str(event["batch"]) in line


def test_after_three_in_a_row_it_goes_back_and_past_the_data(poison, config, tmp_path):
    poison(6, 7, 8)
    lines = []
    summary = quiet(config, tmp_path, lines)
    assert summary["steps"] == 12 and np.isfinite(summary["held_out"]["mlm_loss"])
    assert any("3 steps in a row were bad" in line and "back to step 4" in line for line in lines)
    assert [row["step"] for row in rows(tmp_path) if row["kind"] == "train"] == list(range(1, 13))
    assert [(row["event"], row["step"]) for row in rows(tmp_path) if row["kind"] == "event"] == [("went back", 4)]
    record = read_record(tmp_path / "checkpoints" / "12")
    (skipped,) = record["skipped"]
    assert skipped["step"] == 4 and skipped["from"]["row"] == 4 * 16 and skipped["to"]["row"] >= 8 * 16
    # Twelve updates on good data, and what was left out.
    assert record["cursor"]["row"] == 12 * 16 + skipped["to"]["row"] - skipped["from"]["row"]


def test_a_run_that_cannot_be_helped_ends(poison, config, tmp_path):
    poison(*range(6, 100))
    with pytest.raises(
        bertjax.train.Diverged, match="already rolled back to step 4, the last checkpoint, without success"
    ):
        quiet(config, tmp_path)
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())[-1] == 4


def test_without_a_checkpoint_there_is_no_way_back(poison, config, tmp_path):
    poison(1, 2, 3)
    with pytest.raises(bertjax.train.Diverged, match="no checkpoint to go back to"):
        quiet(config, tmp_path)


# --- The judgement itself ------------------------------------------------------------------------------------------

CONFIG = GuardConfig()


def after(losses, grad_norms=1.0):
    health = initial_health()
    for loss, norm in np.broadcast(losses, grad_norms):
        good, health = judge(health, loss, norm)
    return good, health


def judge(health, loss, norm=1.0, finite=True, loss_scale_overflow=False):
    numbers = (jnp.float32(loss), jnp.float32(norm), jnp.asarray(finite), jnp.asarray(loss_scale_overflow))
    return judged(health, *numbers, CONFIG)


def test_spikes_are_bad_once_the_means_are_trusted():
    _, health = after(np.full(TRUSTED_AFTER, 5.0))
    assert float(health.loss) == pytest.approx(5.0) and float(health.grad_norm) == pytest.approx(1.0)
    assert judge(health, 7.9)[0] and not judge(health, 8.1)[0]
    assert judge(health, 5.0, 99.0)[0] and not judge(health, 5.0, 101.0)[0]
    young = after(np.full(TRUSTED_AFTER - 1, 5.0))[1]
    assert judge(young, 50.0, 5000.0)[0]


def test_bad_steps_leave_the_means_alone_and_are_counted():
    _, health = after(np.full(TRUSTED_AFTER, 5.0))
    for count in (1, 2, 3):
        good, health = judge(health, np.nan, np.nan, finite=False)
        assert not good and int(health.bad_in_a_row) == count
    assert float(health.loss) == pytest.approx(5.0)
    _, health = judge(health, np.nan, np.inf, finite=False, loss_scale_overflow=True)
    assert int(health.bad_in_a_row) == 3  # a float16 overflow neither counts nor makes good
    assert int(judge(health, 5.0)[1].bad_in_a_row) == 0


def test_a_mean_that_rises_causes_a_rollback(tmp_path):
    guard = Guard(CONFIG, tmp_path, 0, print, print)
    good = {"apply_update": 1.0, "mean_loss": 6.0, "lowest_mean_loss": 3.5}
    guard.judge(1, good)
    guard.judge(2, good | {"lowest_mean_loss": 3.4e38})
    with pytest.raises(Rollback, match=r"risen from 3\.500 to 6\.600 at step 3"):
        guard.judge(3, good | {"mean_loss": 6.6})


def test_kept_batches_do_not_fill_the_disk(tmp_path):
    guard = Guard(CONFIG, tmp_path, 0, lambda line: None, lambda row: None)
    values = {"apply_update": 0.0, "loss_scale_overflow": 0.0, "loss": np.nan, "grad_norm": np.nan, "bad_in_a_row": 1.0}
    for step in range(MOST_FILES + 5):
        guard.remember(step, {"input_ids": jnp.zeros((2, 2), jnp.int32)})
        guard.judge(step, values)
    assert len(list((tmp_path / "bad_batches").iterdir())) == MOST_FILES
