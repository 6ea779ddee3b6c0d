"""Whole runs: what they leave behind, the best checkpoint, and that a stopped one goes on as if it had not been."""

import itertools
import json
import shutil
from collections import Counter

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import bertjax
import bertjax.finetune
from bertjax.engine.checkpoint.record import read_record
from bertjax.errors import ConfigError, Stopped
from bertjax.finetune import trial as loop

STEPS_AN_EPOCH = 19  # 150 examples in batches of 8
DETERMINISTIC = ("step", "phase", "loss", "accuracy", "learning_rate", "grad_norm", "loss_scale")


def quiet(config, folder, moods, workdir, stop_at=None, question=1):
    """question: that after update ``stop_at`` which is answered with yes; evaluations ask all but the first."""
    asked = Counter()
    stop = lambda step: asked.update([step]) or (step, asked[step]) == (stop_at, question)
    return bertjax.finetune.run(config, folder, *moods, workdir, should_stop=stop, say=lambda line: None)


def rows(workdir, kind="train"):
    lines = (workdir / "metrics.jsonl").read_text().split("\n")
    return [row for row in map(json.loads, filter(None, lines)) if row["kind"] == kind]


def final_state(workdir):
    with ocp.CheckpointManager(workdir.absolute() / "checkpoints") as manager:
        restored = manager.restore(
            manager.latest_step(),
            args=ocp.args.Composite(state=ocp.args.StandardRestore(), record=ocp.args.JsonRestore()),
        )
    record = {name: restored["record"][name] for name in ("step", "offset", "best", "since_best", "skipped")}
    leaves = jax.tree_util.tree_leaves_with_path(restored["state"])
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}, record


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return tmp_path_factory.mktemp("uninterrupted") / "run"


@pytest.fixture
def finished(config, model_folder, moods, uninterrupted):
    if not (uninterrupted / "summary.json").exists():
        quiet(config, model_folder, moods, uninterrupted)
    return uninterrupted


def test_what_a_run_leaves_behind(finished, moods):
    for name in ("config.json", "metrics.jsonl", "summary.json", "checkpoints", "model"):
        assert (finished / name).exists()
    page = (finished / "report.html").read_text()
    assert "accuracy" in page and ">neg<" in page and ">pos<" in page
    model, tokenizer = bertjax.load_task_model(finished)
    assert model.task.labels == ("neg", "pos") and model.task.max_length == 16
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["main_score"] == "accuracy" == next(iter(summary["scores"]))
    assert np.sum(summary["confusion"]) == 60 and set(summary["per_class"]) == {"neg", "pos"}
    assert summary["steps"] == 2 * STEPS_AN_EPOCH and 0 < summary["padding_fraction"] < 0.4
    assert len(summary["errors"]) == round(60 * (1 - summary["scores"]["accuracy"]))
    assert not list(finished.glob("*.tmp"))
    texts, labels = moods[1]
    said = [found.label for found in bertjax.classify(model, tokenizer, texts)]
    assert np.mean(np.array(said) == labels) == summary["scores"]["accuracy"]


def test_the_labels_and_their_counts_are_in_the_log(finished, moods):
    (line,) = [row["reason"] for row in rows(finished, "event") if " labels, " in row["reason"]]
    train, held_out = (Counter(labels) for _, labels in moods)
    assert line.endswith(": " + ", ".join(f"{name} {train[name]} + {held_out[name]}" for name in ("neg", "pos")))


def test_rows_of_the_log(finished):
    train, evaluations = rows(finished), rows(finished, "eval")
    assert [row["step"] for row in evaluations] == [STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH]
    scores = {"accuracy", "f1_macro", "mcc", "f1", "precision", "recall"}
    for row in evaluations:  # mcc and precision have no value where all predictions are alike
        assert {"loss", "phase", *scores} - {"mcc", "precision"} <= set(row)
    assert {row["phase"] for row in train} == {"epoch 1", "epoch 2"}
    assert set(DETERMINISTIC) | {"tokens_per_second", "padding_fraction", "seconds"} <= set(train[0])
    assert train[0]["learning_rate"] == 0.0
    rates = {row["step"]: row["learning_rate"] for row in train}
    # The rate of update n is that of n - 1 completed ones: up to the peak, then linearly to 0 at the end.
    # The fifth is the first after the warm-up, which takes a tenth of all: four of 38.
    assert rates[5] == pytest.approx(3e-3) and rates[20] == pytest.approx(3e-3 * (38 - 19) / 34)
    assert rates[2 * STEPS_AN_EPOCH] == pytest.approx(3e-3 / 34, rel=1e-4)


@pytest.mark.parametrize("stop_at", [7, STEPS_AN_EPOCH, pytest.param(25, marks=pytest.mark.slow)])
def test_stopped_and_started_again_is_bit_identical(stop_at, config, finished, model_folder, moods, tmp_path):
    """In an epoch, at its end, and in the next one."""
    workdir = tmp_path / "run"
    with pytest.raises(Stopped, match=f"step {stop_at}"):
        quiet(config, model_folder, moods, workdir, stop_at)
    moved = tmp_path / "moved"
    shutil.move(workdir, moved)
    quiet(config, model_folder, moods, moved)
    (arrays, record), (other, other_record) = final_state(finished), final_state(moved)
    assert record == other_record and set(arrays) == set(other)
    assert [name for name, array in arrays.items() if array.tobytes() != other[name].tobytes()] == []
    expected, found = ({row["step"]: row for row in rows(where)} for where in (finished, moved))
    for step, row in expected.items():
        assert {name: row[name] for name in DETERMINISTIC} == {name: found[step][name] for name in DETERMINISTIC}
    plain = lambda where: [{k: v for k, v in row.items() if k != "seconds"} for row in rows(where, "eval")]
    assert plain(finished) == plain(moved)
    models = [(where / "model" / "model.safetensors").read_bytes() for where in (finished, moved)]
    assert models[0] == models[1]


@pytest.mark.parametrize(("stop_at", "question"), [(STEPS_AN_EPOCH, 2), (2 * STEPS_AN_EPOCH, 3)])
def test_an_evaluation_stops_and_is_made_up_for(stop_at, question, config, finished, model_folder, moods, tmp_path):
    """At the next batch, in the first epoch and at the very end; what is on record then is as if nothing had been."""
    with pytest.raises(Stopped, match=f"stopped at step {stop_at};"):
        quiet(config, model_folder, moods, tmp_path, stop_at, question)
    assert [row["step"] for row in rows(tmp_path, "eval")] == [STEPS_AN_EPOCH][: stop_at > STEPS_AN_EPOCH]
    quiet(config, model_folder, moods, tmp_path)
    plain = lambda where: [{k: v for k, v in row.items() if k != "seconds"} for row in rows(where, "eval")]
    assert plain(finished) == plain(tmp_path)
    for step in (STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH):
        expected, found = (read_record(where / "checkpoints" / str(step)) for where in (finished, tmp_path))
        assert expected | {"totals": 0} == found | {"totals": 0}
    models = [(where / "model" / "model.safetensors").read_bytes() for where in (finished, tmp_path)]
    assert models[0] == models[1]


def test_a_finished_run_started_again_exports_again(config, finished, model_folder, moods):
    model = (finished / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(finished / "model")
    before = json.loads((finished / "summary.json").read_text())
    after = quiet(config, model_folder, moods, finished)
    assert {k: v for k, v in after.items() if k != "peak_memory"} == {
        k: v for k, v in before.items() if k != "peak_memory"
    }
    assert (finished / "model" / "model.safetensors").read_bytes() == model


def test_a_workdir_of_another_run_is_refused(config, finished, model_folder, moods):
    config.training.batch_size = 4
    with pytest.raises(ConfigError, match=r"training\.batch_size \(there 8, here 4\).*--workdir"):
        quiet(config, model_folder, moods, finished)
    config.training.batch_size = 8
    (texts, labels), evaluation = moods
    with pytest.raises(ConfigError, match="another config: train"):
        quiet(config, model_folder, ((texts[:-1], labels[:-1]), evaluation), finished)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"data": 8}, id="8 devices", marks=pytest.mark.slow),
        pytest.param({"rows_per_device": 2}, id="4 parts", marks=pytest.mark.slow),
        pytest.param({"data": 1, "fsdp": 2, "tensor": 2}, id="2 x 2 devices"),
    ],
)
def test_losses_do_not_depend_on_the_split(change, config, finished, model_folder, moods, tmp_path):
    """float32 with dropout: what differs is the order of sums."""
    config.parallel.update(change)
    with pytest.raises(Stopped):
        quiet(config, model_folder, moods, tmp_path, STEPS_AN_EPOCH + 1)
    expected, found = ({row["step"]: row["loss"] for row in rows(where)} for where in (finished, tmp_path))
    assert len(found) >= 5
    np.testing.assert_allclose([expected[step] for step in found], list(found.values()), rtol=1e-4)


def test_after_three_bad_steps_it_goes_back_and_past_their_batches(config, model_folder, moods, tmp_path, monkeypatch):
    place, numbers = loop.to_global, itertools.count(1)

    def poisoned(batch, mesh):
        bad = next(numbers) in (8, 9, 10)
        return place(batch | {"weights": batch["weights"] * np.float32(np.inf)} if bad else batch, mesh)

    monkeypatch.setattr(loop, "to_global", poisoned)
    config.checkpoint.every_steps = 5
    config.logging.every_steps = 1
    summary = quiet(config, model_folder, moods, tmp_path)
    assert summary["steps"] == 2 * STEPS_AN_EPOCH and 0 < summary["padding_fraction"] < 0.4
    happened = [(row["event"], row["step"]) for row in rows(tmp_path, "event")]
    assert [event for event in happened if event[0] != "data"] == [("went back", 5)]
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 2 * STEPS_AN_EPOCH + 1))
    (left_out,) = final_state(tmp_path)[1]["skipped"]
    assert left_out["from"] == 5 and left_out["to"] >= 10


def test_the_best_checkpoint_is_kept_and_exported_and_training_ends_early(config, model_folder, moods, tmp_path):
    """A rate so high that the score falls: what is left is the model of the best evaluation, not of the last."""
    config.training.learning_rate = "0.3"
    config.training.warmup_fraction = 0.0
    config.training.epochs = "3"
    config.training.evaluate_every = 5
    config.training.early_stopping = 2
    config.guard.loss_rise = 1e6
    config.guard.gradient_factor = 1e6
    summary = quiet(config, model_folder, moods, tmp_path)
    scores = {row["step"]: row["accuracy"] for row in rows(tmp_path, "eval")}
    best = max(scores, key=lambda step: (scores[step], -step))
    assert summary["best_step"] == best and summary["scores"]["accuracy"] == scores[best]
    steps = sorted(scores)
    assert steps[-1] == summary["steps"] < 3 * STEPS_AN_EPOCH
    assert steps.index(best) == len(steps) - 3  # two evaluations after it, none better
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept == {best, steps[-1]}
    again = quiet(config, model_folder, moods, tmp_path)
    assert again["steps"] == summary["steps"] and again["best_step"] == best


@pytest.mark.parametrize("scan_layers", [True, False])
def test_frozen_layers_do_not_move_and_the_head_does(scan_layers, config, model_folder, moods, tmp_path):
    config.model.scan_layers = scan_layers
    config.training.frozen_layers = 1
    config.training.layer_decay = 0.5
    config.training.epochs = "1"
    quiet(config, model_folder, moods, tmp_path)
    before, after = bertjax.load_model(model_folder), bertjax.load_task_model(tmp_path)[0].bert
    table = lambda model: np.asarray(model.embeddings.word_embeddings[...])
    kernel = lambda model: np.asarray(model.encoder.layers.mlp.output.kernel[...])
    np.testing.assert_array_equal(table(before)[:40], table(after)[:40])
    np.testing.assert_array_equal(kernel(before)[0], kernel(after)[0])
    assert np.abs(kernel(before)[1] - kernel(after)[1]).max() > 1e-4


def test_several_rates_and_seeds_make_a_run_each(config, model_folder, moods, tmp_path):
    config.training.epochs = "1"
    config.training.learning_rate = "1e-3,3e-3"
    config.training.seed = "0,1"
    lines = []
    with pytest.raises(Stopped):  # in the second trial
        stop = lambda step: step == 3 and any(tmp_path.glob("runs/*/summary.json"))
        bertjax.finetune.run(config, model_folder, *moods, tmp_path, should_stop=stop, say=lambda line: None)
    (stopped,) = [path for path in (tmp_path / "runs").iterdir() if not (path / "summary.json").exists()]
    assert "all is saved in" in (stopped / "report.html").read_text()
    summary = bertjax.finetune.run(config, model_folder, *moods, tmp_path, say=lines.append)
    assert "0.003" in (tmp_path / "report.html").read_text()
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == sorted(f"lr-{rate}_epochs-1_seed-{seed}" for rate in ("0.001", "0.003") for seed in (0, 1))
    found = [run["scores"]["accuracy"] for run in summary["runs"]]
    assert len(found) == 4 and summary["scores"]["accuracy"] == max(found)
    assert summary["mean"]["accuracy"] == pytest.approx(np.mean(found))
    assert summary["spread"]["accuracy"] == pytest.approx(np.std(found, ddof=1))
    assert json.loads((tmp_path / "summary.json").read_text())["runs"] == summary["runs"]
    assert any("already finished" in line for line in lines)
    assert any("mean" in line for line in lines) and any("spread" in line for line in lines)
    best = summary["runs"][int(np.argmax(found))]
    own = tmp_path / "runs" / f"lr-{best['learning_rate']:g}_epochs-1_seed-{best['seed']}" / "model"
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (own / "model.safetensors").read_bytes()
    assert bertjax.load_task_model(tmp_path)[0].task.kind == "classification"

    # Trials share what is compiled; each is what it would be alone.
    last = summary["runs"][-1]
    config.training.learning_rate, config.training.seed = str(last["learning_rate"]), str(last["seed"])
    bertjax.finetune.run(config, model_folder, *moods, tmp_path / "alone", say=lambda line: None)
    own = tmp_path / "runs" / f"lr-{last['learning_rate']:g}_epochs-1_seed-{last['seed']}" / "model"
    assert (tmp_path / "alone/model/model.safetensors").read_bytes() == (own / "model.safetensors").read_bytes()
