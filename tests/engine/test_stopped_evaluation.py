"""A run that is asked to stop during an evaluation stops at its next batch, and does it when it goes on."""

import json
from collections import Counter

import pytest

import bertjax.train
from bertjax.engine.checkpoint.record import read_record
from bertjax.engine.metrics_log import MetricsLog


class Asked:
    """``should_stop`` that says yes to the ``number``-th question after update ``step``: the first is that of the loop,
    then comes one before each batch of the evaluation."""

    def __init__(self, step, number):
        self.at, self.questions = (step, number), Counter()

    def __call__(self, step):
        self.questions[step] += 1
        return (step, self.questions[step]) == self.at


def rows(workdir, kind):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if k != "seconds"} for row in lines if row["kind"] == kind]


def record(workdir, step):
    found = read_record(workdir / "checkpoints" / str(step))
    return found | {"totals": found["totals"]["real_tokens"]}


@pytest.mark.parametrize(
    ("step", "number"),
    [
        pytest.param(6, 3, id="second batch, end of a phase"),
        pytest.param(10, 1, id="before that of the end"),
        pytest.param(10, 2, id="first batch of that of the end"),
    ],
)
def test_it_stops_at_the_next_batch_and_makes_up_for_it(step, number, config, finished, tmp_path):
    run = lambda asked: bertjax.train.run(config, tmp_path, should_stop=asked, say=lambda line: None)
    with pytest.raises(bertjax.train.Stopped, match=f"stopped at step {step};"):
        run(asked := Asked(step, number))
    assert asked.questions[step] == number  # nothing was asked, and nothing done, after that
    assert [row["step"] for row in rows(tmp_path, "eval")] == [6][: step > 6]
    assert record(tmp_path, step)["held_out_loss"] is None

    with pytest.raises(bertjax.train.Stopped):  # once more, in the evaluation that it makes up for
        run(asked := Asked(step, 2))
    assert asked.questions == {step: 2}
    summary = run(Asked(0, 0))
    assert rows(tmp_path, "eval") == rows(finished, "eval")
    whole = json.loads((finished / "summary.json").read_text())
    assert [summary[name] for name in ("held_out", "steps")] == [whole[name] for name in ("held_out", "steps")]
    for saved in (6, 10):  # as if the evaluation had been there before it was saved
        assert record(tmp_path, saved) == record(finished, saved)
    model = lambda workdir: (workdir / "model" / "model.safetensors").read_bytes()
    assert model(tmp_path) == model(finished)


def test_a_finished_run_that_is_started_again_stops_too(config, finished):
    with pytest.raises(bertjax.train.Stopped):
        bertjax.train.run(config, finished, should_stop=Asked(10, 2), say=lambda line: None)


def test_an_evaluation_that_is_done_again_is_on_record_once(tmp_path):
    log = MetricsLog(tmp_path, 0, tensorboard=False)
    kinds = (("train", 3), ("eval", 3), ("train", 6), ("eval", 6), ("train", 7))
    for kind, step in kinds:
        log.write({"kind": kind, "step": step})
    log.close()
    MetricsLog(tmp_path, 6, tensorboard=False, evaluated=False).close()
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [(row["kind"], row["step"]) for row in lines] == [("train", 3), ("eval", 3), ("train", 6)]
