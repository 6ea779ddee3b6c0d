"""A run goes on with the examples that it began with, whatever version of the rules made them."""

import json

import pytest

import bertjax.train
from bertjax.data.stream.settings import ORDER
from bertjax.errors import ConfigError
from bertjax.train import corpus_position, pretraining


def change_order(workdir, order):
    path = workdir / "config.json"
    recorded = json.loads(path.read_text())
    recorded["corpus"].pop("order", None)
    recorded["corpus"] |= {} if order is None else {"order": order}
    path.write_text(json.dumps(recorded))


def test_a_run_of_before_goes_on_by_the_rules_of_then(config, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    del config.phases["phase2"]
    config.phases.phase1.steps = 4
    with monkeypatch.context() as earlier:
        earlier.setattr(corpus_position, "ORDER", 1)
        with pytest.raises(bertjax.train.Stopped):
            bertjax.train.run(config, workdir, should_stop=lambda step: step == 3, say=lambda line: None)

    for order, words in ((2, "random is"), (99, "version 99 of the rules"), ("a", "version a of the rules")):
        change_order(workdir, order)
        with pytest.raises(ConfigError, match=words) as refused:
            bertjax.train.run(config, workdir, say=lambda line: None)
        assert "\n" not in str(refused.value)

    change_order(workdir, None)  # as it was before versions were kept
    asked, lines = [], []

    def spied(make):
        def spy(corpus, tokenizer, settings, *rest, **named):
            asked.extend(settings if isinstance(settings, list) else [settings])
            return make(corpus, tokenizer, settings, *rest, **named)

        return spy

    for name in ("open_batches", "evaluation_batches"):
        monkeypatch.setattr(pretraining, name, spied(getattr(pretraining, name)))
    bertjax.train.run(config, workdir, say=lines.append)
    assert len(asked) == 2 and {settings.order for settings in asked} == {1}
    assert any("version 1 of the rules, as when the run began" in line for line in lines)
    assert json.loads((workdir / "config.json").read_text())["corpus"]["order"] == 1


def test_a_new_run_has_the_newest_rules_on_record(finished):
    assert json.loads((finished / "config.json").read_text())["corpus"]["order"] == ORDER > 1
