"""Trials of a search that came to their end, as they lie on disk."""

import json

import pytest
from safetensors.numpy import load_file, save_file

from bertjax.errors import ModelFileError
from bertjax.finetune.settings import Trial
from bertjax.finetune.trials import finished_summary, keep_best
from bertjax.workdir.belongings import RUNS

SUMMARY = {"main_score": "accuracy", "scores": {"accuracy": 0.5}}
IDENTITY = {"training.seed": 0}


def trial_folder(folder, config, summary):
    (folder / "model").mkdir(parents=True)
    for name, content in {"config.json": config, "summary.json": summary, "model/config.json": "{}"}.items():
        (folder / name).write_text(content)


def test_a_trial_that_came_to_its_end_is_known(tmp_path):
    trial_folder(tmp_path, json.dumps({"identity": IDENTITY}), json.dumps(SUMMARY))
    assert finished_summary(tmp_path, IDENTITY) == SUMMARY


@pytest.mark.parametrize(
    ("config", "summary"),
    [
        ("[]", json.dumps(SUMMARY)),
        ("[" * 100_000, json.dumps(SUMMARY)),
        (json.dumps({"identity": IDENTITY}), "null"),
        (json.dumps({"identity": IDENTITY}), '{"main_score": [], "scores": {}}'),
        (json.dumps({"identity": IDENTITY}), '{"scores": {"accuracy": 0.5}}'),
        (json.dumps({"identity": IDENTITY}), '{"main_score": "accuracy", "scores": {"accuracy": null}}'),
    ],
)
def test_files_of_other_types_are_those_of_no_finished_trial(config, summary, tmp_path):
    trial_folder(tmp_path, config, summary)
    assert finished_summary(tmp_path, IDENTITY) is None


def test_the_model_of_a_search_from_before_the_record_is_replaced_by_another_trials(model_folder, tmp_path):
    trials = [Trial(1e-3, 1, seed) for seed in (0, 1)]
    tensors = load_file(model_folder / "model.safetensors")
    for trial, change in zip(trials, (0, 1), strict=True):
        folder = tmp_path / RUNS / trial.name / "model"
        folder.mkdir(parents=True)
        save_file({name: x + change for name, x in tensors.items()}, folder / "model.safetensors")
    for trial in trials:
        keep_best(tmp_path, trial, SUMMARY)
        there = tmp_path / RUNS / trial.name / "model" / "model.safetensors"
        assert (tmp_path / "model" / "model.safetensors").read_bytes() == there.read_bytes()
    save_file({name: x + 2 for name, x in tensors.items()}, tmp_path / "model" / "model.safetensors")
    with pytest.raises(ModelFileError, match="which bertjax did not export"):
        keep_best(tmp_path, trials[0], SUMMARY)
