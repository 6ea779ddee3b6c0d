"""A run with precision = "auto" decides once, says so, and keeps what it has decided when it resumes."""

import json

import pytest

import bertjax.train
from bertjax.errors import ConfigError
from bertjax.train import pretraining


def test_a_run_keeps_the_precision_that_it_began_with(config, tmp_path, monkeypatch):
    config.precision = "auto"
    said, workdir = [], tmp_path / "run"
    run = lambda **more: bertjax.train.run(config, workdir, say=said.append, **more)
    monkeypatch.setattr(pretraining, "decided_precision", lambda run, mesh: ("bfloat16", "an MLP is faster so"))
    with pytest.raises(bertjax.train.Stopped):
        run(should_stop=lambda step: step == 2)
    record = json.loads((workdir / "config.json").read_text())
    assert record["identity"]["precision"] == record["config"]["precision"] == "bfloat16"
    assert "precision: bfloat16 (an MLP is faster so); the run keeps it when it resumes" in said

    # On a machine that would have decided otherwise.
    monkeypatch.setattr(pretraining, "decided_precision", lambda run, mesh: ("float32", ""))
    with pytest.raises(bertjax.train.Stopped):
        run(should_stop=lambda step: step == 4)
    assert json.loads((workdir / "config.json").read_text())["identity"] == record["identity"]
    config.precision = "bfloat16"
    with pytest.raises(bertjax.train.Stopped):
        run(should_stop=lambda step: step == 5)
    config.precision = "float32"
    with pytest.raises(ConfigError, match="precision"):
        run()
