"""Whole runs: what they leave behind, and that a stopped one goes on as if it had not been stopped."""

import json
import os
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file

import bertjax.train
from bertjax.data.corpus.prepared import prepare
from bertjax.errors import ConfigError
from bertjax.objectives import mlm_nsp

STEPS = (6, 4)


def quiet(config, workdir, stop_at=None):
    return bertjax.train.run(config, workdir, should_stop=lambda step: step == stop_at, say=lambda line: None)


def rows(workdir, kind="train"):
    lines = (workdir / "metrics.jsonl").read_text().split("\n")
    return [row for row in map(json.loads, filter(None, lines)) if row["kind"] == kind]


def final_arrays(workdir):
    with ocp.CheckpointManager(workdir.absolute() / "checkpoints") as manager:
        restored = manager.restore(
            manager.latest_step(),
            args=ocp.args.Composite(state=ocp.args.StandardRestore(), record=ocp.args.JsonRestore()),
        )
    position = dict(restored["record"])
    position["totals"] = {"real_tokens": position["totals"]["real_tokens"]}
    del position["digest"]  # of the seconds too
    return {
        jax.tree_util.keystr(p): np.asarray(x) for p, x in jax.tree_util.tree_leaves_with_path(restored["state"])
    }, position


@pytest.fixture(scope="module")
def finished(finished, tmp_path_factory):
    """A copy that may be written to."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("uninterrupted") / "run")


@pytest.mark.smoke
def test_what_a_run_leaves_behind(finished):
    for name in ("config.json", "metrics.jsonl", "summary.json", "tensorboard", "checkpoints"):
        assert (finished / name).exists()
    model = {p.name for p in (finished / "model").iterdir()}
    assert {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"} <= model
    tensors = load_file(finished / "model" / "model.safetensors")
    assert tensors["bert.embeddings.word_embeddings.weight"].shape == (600, 16)
    assert tensors["bert.encoder.layer.1.intermediate.dense.weight"].shape == (32, 16)

    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary["held_out"]) == {"mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy"}
    assert summary["unigram_loss"] > 0
    assert summary["steps"] == sum(STEPS)
    assert summary["real_tokens"] > 0.8 * (6 * 16 * 32 + 4 * 8 * 64)
    assert not list(finished.glob("*.tmp"))


def test_rows_of_the_log(finished):
    train = rows(finished)
    assert [(r["step"], r["phase"]) for r in train] == [
        *((s, "phase1") for s in (1, 2, 4, 6)),
        *((s, "phase2") for s in (7, 8, 10)),
    ]
    assert set(mlm_nsp.OBJECTIVE.fields) | {"tokens_per_second", "mfu", "padding_fraction", "seconds"} <= set(train[0])
    assert train[0]["learning_rate"] == 0.0
    assert [r["step"] for r in rows(finished, "eval")] == [6, 10]


DETERMINISTIC = (*mlm_nsp.OBJECTIVE.fields, "step", "phase")


@pytest.mark.parametrize("stop_at", [2, 6, *(pytest.param(step, marks=pytest.mark.slow) for step in (5, 8))])
def test_stopped_and_started_again_is_bit_identical(stop_at, config, finished, tmp_path):
    """In phase 1, before the boundary, on it, in phase 2."""
    workdir = tmp_path / "run"
    with pytest.raises(bertjax.train.Stopped, match=f"step {stop_at}"):
        quiet(config, workdir, stop_at)
    moved = tmp_path / "moved"  # a workdir can be moved and goes on
    shutil.move(workdir, moved)
    quiet(config, moved)

    arrays, position = final_arrays(finished)
    other_arrays, other_position = final_arrays(moved)
    assert position == other_position
    assert set(arrays) == set(other_arrays)
    for name, array in arrays.items():
        assert array.tobytes() == other_arrays[name].tobytes(), name

    expected = {r["step"]: r for r in rows(finished)}
    found = {r["step"]: r for r in rows(moved)}
    assert set(found) - {stop_at + 1} <= set(expected) <= set(found)
    for step, row in expected.items():
        assert {k: row[k] for k in DETERMINISTIC} == {k: found[step][k] for k in DETERMINISTIC}
    evals = lambda workdir: [{k: v for k, v in r.items() if k != "seconds"} for r in rows(workdir, "eval")]
    assert evals(finished) == evals(moved)
    assert [r["step"] for r in rows(moved, "event")] == [stop_at]


def test_killed_without_warning_goes_on_from_the_last_checkpoint(config, finished, tmp_path):
    workdir = tmp_path / "run"

    class Killed(BaseException):
        pass

    def kill(step):
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        bertjax.train.run(config, workdir, should_stop=kill, say=lambda line: None)
    quiet(config, workdir)
    assert [r["step"] for r in rows(workdir, "event")] == [3]
    arrays, other = final_arrays(finished)[0], final_arrays(workdir)[0]
    assert all(arrays[name].tobytes() == other[name].tobytes() for name in arrays)


def test_a_finished_run_started_again_exports_again(config, finished):
    before = {k: v for k, v in json.loads((finished / "summary.json").read_text()).items() if k != "peak_memory"}
    model = (finished / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(finished / "model")
    after = quiet(config, finished)
    assert {k: after[k] for k in before} == before
    assert (finished / "model" / "model.safetensors").read_bytes() == model


def test_workdir_of_another_config_is_refused(config, finished):
    config.model.hidden_size = 32
    config.seed = 4
    with pytest.raises(
        ConfigError, match=r"model\.hidden_size \(there 16, here 32\), seed \(there 0, here 4\).*--workdir"
    ):
        quiet(config, finished)


def test_operational_keys_may_change(config, finished, tmp_path):
    """The same losses up to rounding, with the layers run another way, another mesh and other intervals after the
    restart."""
    with pytest.raises(bertjax.train.Stopped):
        quiet(config, tmp_path, 5)
    config.logging.every_steps = 1
    config.checkpoint.keep = 1
    config.model.scan_layers = False
    config.parallel.update(data=2, fsdp=2, tensor=2)
    quiet(config, tmp_path)
    expected, found = ({r["step"]: r["loss"] for r in rows(where)} for where in (finished, tmp_path))
    assert set(found) == {1, 2, 4, 6, 7, 8, 9, 10}
    np.testing.assert_allclose([found[s] for s in expected], list(expected.values()), rtol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"objective": "mlm"},
        pytest.param({"packing": False}, marks=pytest.mark.slow),
        {"tokenizer": "sentencepiece"},
    ],
)
def test_other_kinds_of_runs(change, config, tmp_path):
    config.data.update(change)
    config.phases.phase1.steps = config.phases.phase2.steps = 1
    summary = quiet(config, tmp_path)
    assert np.isfinite(summary["held_out"]["mlm_loss"])
    assert ("nsp_loss" in summary["held_out"]) == (change != {"objective": "mlm"})


def test_one_sentence_is_enough_for_mlm(config, tmp_path):
    (tmp_path / "one.txt").write_text("A single sentence is a very small corpus.\n")
    config.data.corpus = str(tmp_path / "one.txt")
    config.data.objective = "mlm"
    config.phases.phase1.steps = config.phases.phase2.steps = 1
    assert np.isfinite(quiet(config, tmp_path / "run")["held_out"]["mlm_loss"])


def test_divergence_is_told_and_never_saved(config, tmp_path):
    """The rate overflows at the third update; what was saved before it is finite."""
    config.phases.phase1.learning_rate = 3e38
    config.phases.phase1.warmup_steps = 1
    config.optimizer.clip_norm = 0.0
    config.checkpoint.every_steps = 1
    with pytest.raises(bertjax.train.Diverged, match="in a row were bad"):
        quiet(config, tmp_path)
    arrays, _ = final_arrays(tmp_path)
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_training_text_is_not_called_held_out(config, tmp_path):
    config.data.held_out_fraction = 0.0
    config.phases.phase1.steps = config.phases.phase2.steps = 1
    lines = []
    summary = bertjax.train.run(config, tmp_path, say=lines.append)
    assert summary["held_out_kind"] == "copy"
    assert any("training text" in line for line in lines)
    assert any(line.startswith("training-text masked-LM loss") for line in lines)


def test_prepared_corpus_of_another_vocabulary_is_refused(config, corpus_file, tmp_path):
    prepare([str(corpus_file)], tmp_path / "mine", vocab_size=500)
    config.data.corpus = str(tmp_path / "mine")
    with pytest.raises(ConfigError, match=r"500.*600|600.*500"):
        quiet(config, tmp_path / "run")


def test_what_a_config_hardly_means_is_said_and_on_record(config, tmp_path):
    config.phases.phase1.max_predictions = 2
    config.phases.phase1.steps = config.phases.phase2.steps = 1
    lines = []
    bertjax.train.run(config, tmp_path, say=lines.append)
    (cap, warmup) = [line for line in lines if line.startswith("warning: ")]
    assert "config.phases.phase1.max_predictions = 2" in cap and "config.phases.phase1.warmup_steps = 2" in warmup
    (recorded, also) = [row["reason"] for row in rows(tmp_path, "event") if row["event"] == "warning"]
    assert (f"warning: {recorded}", f"warning: {also}") == (cap, warmup)
    bertjax.train.run(config, tmp_path, say=lambda line: None)
    assert len([row for row in rows(tmp_path, "event") if row["event"] == "warning"]) == 2


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_the_modes_of_all_files_follow_the_umask(mask, config, tmp_path, monkeypatch):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    config.phases.phase1.steps, config.phases.phase2.steps = 2, 0
    before = os.umask(mask)
    try:
        quiet(config, tmp_path / "run")
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    ours = {path: mode for path, mode in modes.items() if {"run", "cache"} & set(path.relative_to(tmp_path).parts)}
    wrong = [str(p) for p, mode in ours.items() if mode != (0o777 if p.is_dir() else 0o666) & ~mask]
    assert len(ours) > 30 and wrong == []
