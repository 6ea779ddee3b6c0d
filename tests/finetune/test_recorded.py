"""Runs that an earlier version began, with another set of identity keys, go on as they began."""

import json

import pytest

import bertjax.finetune
from bertjax.config_schema import fingerprint
from bertjax.errors import ConfigError, Stopped
from bertjax.finetune import trials
from bertjax.finetune.trials import finished_summary, identity_when_begun


def test_keys_that_were_not_there_and_make_no_difference_are_left_out():
    old = {"task": "classification", "data.too_long": "refuse"}
    new = {"task": "classification", "data.new": None, "data.other": "set"}
    assert identity_when_begun({"identity": old}, new) == old | {"data.other": "set"}
    assert identity_when_begun(None, new) == new


@pytest.mark.parametrize("before", ["refuse", "cut"])
def test_too_long_keeps_the_value_on_record(before):
    assert identity_when_begun({"identity": {"data.too_long": before}}, {}) == {"data.too_long": before}


def test_a_run_from_before_too_long_had_other_values_goes_on(config, model_folder, moods, tmp_path, monkeypatch):
    def run(stop_at=None):
        config.training.epochs, config.logging.every_steps = "1", 100
        stop = lambda step: step == stop_at
        data = tuple(part[:24] for part in moods[0]), tuple(part[:8] for part in moods[1])
        return bertjax.finetune.run(config, model_folder, *data, tmp_path, should_stop=stop, say=lambda line: None)

    items = trials.identity_items
    with monkeypatch.context() as patch:
        patch.setattr(trials, "identity_items", lambda *given: items(*given) | {"data.too_long": "refuse"})
        with pytest.raises(Stopped):
            run(stop_at=1)
    recorded = json.loads((tmp_path / "config.json").read_text())
    assert recorded["identity"]["data.too_long"] == "refuse"
    assert run()["steps"] == 3
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["identity"] == recorded["identity"]
    assert record["identity_fingerprint"] == fingerprint(recorded["identity"])
    config.training.batch_size = 4
    with pytest.raises(ConfigError, match=r"training\.batch_size \(there 8, here 4\)"):
        run()


def test_a_finished_trial_from_before_is_not_trained_again(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    summary = {"main_score": "accuracy", "scores": {"accuracy": 0.5}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "config.json").write_text(json.dumps({"identity": {"task": "tagging", "data.too_long": "refuse"}}))
    assert finished_summary(tmp_path, {"task": "tagging", "data.new": None}) == summary
    assert finished_summary(tmp_path, {"task": "tagging", "data.new": "set"}) is None
