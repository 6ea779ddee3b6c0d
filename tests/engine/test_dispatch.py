"""Steps are dispatched ahead of the metrics that are read: how many, and that all of them are read in the end."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.config import GuardConfig
from bertjax.engine import dispatch
from bertjax.engine.dispatch import MOST_AHEAD, batches_held, steps_ahead
from bertjax.engine.guard import Guard
from bertjax.engine.recorder import Recorder, Stage, StepCost
from bertjax.parallel.mesh import make_mesh


def recorder(ahead, judge, log):
    quiet = SimpleNamespace(begin=lambda *_: None, end=lambda: None, show=lambda *_: None, say=lambda line: None)
    before = {"seconds": 0.0, "real_tokens": 0}
    made = Recorder([Stage("one", 1, 9)], ("loss",), 1, log, quiet, 0, before, None, judge, ahead)
    made.begin_stage(0)
    return made


@pytest.mark.parametrize("ahead", [1, 4])
def test_metrics_are_read_so_many_steps_later_and_all_of_them_in_order(ahead):
    read, rows = [], []
    log = SimpleNamespace(write=rows.append, sync=lambda: None, close=lambda: None)
    made = recorder(ahead, lambda step, values: read.append((step, values["loss"])), log)
    for step in range(1, 8):
        made.push(step, {"loss": jnp.float32(step), "real_tokens": jnp.int32(10)}, StepCost(16, 1.0))
        assert read == [(n, float(n)) for n in range(1, step - ahead + 1)]
    made.flush()
    assert [step for step, _ in read] == list(range(1, 8))
    assert [row["step"] for row in rows] == list(range(1, 8))
    assert made.totals()["real_tokens"] == 70


def test_the_batch_of_a_bad_step_is_still_there_when_its_metrics_come(tmp_path):
    rows = []
    guard = Guard(GuardConfig(), tmp_path, 0, lambda line: None, rows.append, ahead=3)
    for step in range(1, 5):
        guard.remember(step, {"input_ids": jnp.full((2, 3), step)})
    bad = {"apply_update": 0, "loss_scale_overflow": 0, "loss": 1.0, "grad_norm": 2.0, "bad_in_a_row": 1.0}
    guard.judge(1, bad)
    assert np.load(rows[0]["batch"])["input_ids"].tolist() == [[1] * 3] * 2


def test_short_steps_are_queued_and_long_ones_are_not(monkeypatch):
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    rate = dispatch._UNKNOWN_FLOPS
    assert steps_ahead([1.0], mesh) == MOST_AHEAD
    assert steps_ahead([1.0, 10 * rate], mesh) == 1  # the longest step of the run
    assert steps_ahead([rate * dispatch.QUEUED_SECONDS / 2.5], mesh) == 2
    monkeypatch.setattr(dispatch, "peak_flops", lambda mesh: 1e15)
    assert steps_ahead([4e14 / 32], mesh) == MOST_AHEAD  # base on one of today's accelerators: some 30 ms


def test_the_guard_keeps_as_many_batches_as_are_counted():
    """All but the one in the making."""
    assert Guard(GuardConfig(), None, 0, None, None, ahead=4)._batches.maxlen == batches_held(4) - 1
