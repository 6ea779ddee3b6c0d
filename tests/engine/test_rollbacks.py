"""Rollbacks past damaged checkpoints: the steps left out are saved again, and phases read what is theirs."""

import json
import time

import pytest

import bertjax.train
from bertjax.engine.checkpoint.record import read_record
from bertjax.engine.guard import Guard, Rollback
from bertjax.train import pretraining


def quiet(config, workdir, lines=None):
    return bertjax.train.run(config, workdir, say=(lines if lines is not None else []).append)


def flip(step):
    """Flips a bit in the largest file of a checkpoint's arrays, once it is written."""
    end = time.monotonic() + 30
    while not step.is_dir() and time.monotonic() < end:
        time.sleep(0.01)
    path = max((step / "state").rglob("d/*"), key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def rollback_at(monkeypatch):
    """``rollback_at(step, before)``: once the metrics of that step are judged, ``before()`` is called and the run
    has to roll back; only the first time."""
    judge, pending = Guard.judge, {}

    def judged(self, step, values):
        if step in pending:
            pending.pop(step)()
            raise Rollback(f"step {step} is said to be bad")
        judge(self, step, values)

    monkeypatch.setattr(Guard, "judge", judged)
    return pending.__setitem__


@pytest.fixture
def config(config):
    """Two phases of 12 and 8 steps, a checkpoint every four."""
    config.phases.phase1.steps, config.phases.phase2.steps = 12, 8
    config.phases.phase1.learning_rate = 1e-3
    config.logging.every_steps = 1
    config.logging.tensorboard = False
    config.checkpoint.every_steps = 4
    config.checkpoint.keep = 9
    config.evaluation.max_rows = 8
    return config


def test_a_step_past_a_damaged_one_is_saved_again(rollback_at, config, tmp_path):
    rollback_at(10, lambda: flip(tmp_path / "checkpoints/8"))
    lines = []
    assert quiet(config, tmp_path, lines)["steps"] == 20
    assert any("checkpoint of step 8 is damaged" in line for line in lines)
    assert (tmp_path / "damaged/8").is_dir()
    for step in (4, 8, 12, 16, 20):
        assert read_record(tmp_path / f"checkpoints/{step}")["step"] == step


def test_a_step_that_was_deleted_is_saved_again(rollback_at, config, tmp_path):
    """Of 4, 8 and 12, 8 is not kept; past the damaged step 12 the run comes by it once more."""
    config.checkpoint.keep, config.checkpoint.keep_every_steps = 1, 4 * 3
    config.phases.phase1.steps, config.phases.phase2.steps = 28, 4
    rollback_at(27, lambda: flip(tmp_path / "checkpoints/24"))
    assert quiet(config, tmp_path)["steps"] == 32
    assert read_record(tmp_path / "checkpoints/32")["step"] == 32


def test_a_rollback_into_the_phase_before_reads_that_phase(rollback_at, config, tmp_path, monkeypatch):
    """The checkpoint between the phases is damaged, so the run goes back to the middle of the first one, and on with
    rows of its own length that were in no batch before."""
    opened, open_batches = [], pretraining.open_batches

    def opening(*arguments, **named):
        opened.append((named["phase_index"], named["cursor"]))
        return open_batches(*arguments, **named)

    monkeypatch.setattr(pretraining, "open_batches", opening)
    rollback_at(15, lambda: flip(tmp_path / "checkpoints/12"))
    assert quiet(config, tmp_path)["steps"] == 20
    assert [index for index, _ in opened] == [0, 1, 0, 1]
    back, then = opened[2][1], opened[3][1]
    # What was read of the block: 12 batches of 16 rows, then 15 or 16 batches of 8 in the second phase.
    assert back.row == 0 and back.cuts[0] == (0, 12 * 16) and back.cuts[1][0] == 1
    assert back.cuts[1][1] % 8 == 0 and back.cuts[1][1] >= 3 * 8
    assert then.cuts == (*back.cuts, (0, 4 * 16)) and then.row == 0
    records = {step: read_record(tmp_path / f"checkpoints/{step}") for step in (8, 12, 16)}
    assert [records[step]["phase"] for step in (8, 12, 16)] == [0, 0, 1]
    assert records[12]["cursor"]["row"] == 4 * 16
    (left_out,) = records[16]["skipped"]
    assert left_out["step"] == 8 and left_out["phase"] == 1
    phases = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in phases if row["kind"] == "train"] == ["phase1"] * 12 + ["phase2"] * 8
