"""The config of fine-tuning: lists make trials, mistakes are told in one line."""

import pytest

from bertjax.errors import ConfigError
from bertjax.finetune import settings
from bertjax.finetune.settings import KINDS, default_config, identity_items, of_trial, resolve, to_dict, trials
from bertjax.model import task


def test_kinds_are_those_of_the_model():
    assert set(KINDS) == set(task.KINDS)


def test_lists_make_a_trial_of_each_combination():
    config = default_config("classification")
    config.training.learning_rate = "2e-5, 2.0000001e-5, 5e-5"
    config.training.seed = "0,1,2"
    run = resolve(config)
    found = trials(run)
    assert len(found) == len({trial.name for trial in found}) == 9
    assert found[-1].name == "lr-5e-05_epochs-3_seed-2"
    one = of_trial(run, found[-1])
    assert one.training.learning_rate == (5e-5,) and trials(one) == [found[-1]]


def test_a_trial_has_the_same_identity_however_many_others_there_are():
    config = default_config("tagging")
    alone = resolve(config)
    config.training.seed = "0,1"
    config.training.learning_rate = "5e-5,1e-4"
    several = resolve(config)
    first = trials(alone)[0]
    assert identity_items(of_trial(alone, first), {}) == identity_items(of_trial(several, first), {})


def test_numbers_may_stand_alone_and_lists_may_be_lists():
    run = resolve({"task": "regression", "training": {"learning_rate": 1e-4, "epochs": [1, 2], "seed": "3"}})
    assert run.training.learning_rate == (1e-4,) and run.training.epochs == (1, 2) and run.training.seed == (3,)
    assert run.optimizer.name == "adamw" and run.checkpoint.keep_best == 1
    assert to_dict(run)["training"]["epochs"] == [1, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "clasification"}, "did you mean 'classification'"),
        ({"training": {"learning_rate": "1e-5,x"}}, "training.learning_rate must be of type float, not str"),
        ({"training": {"epochs": "1.5"}}, "training.epochs must be of type int"),
        ({"training": {"epochs": ""}}, "training.epochs must hold at least one value"),
        ({"training": {"seed": "1,1"}}, "training.seed has the same value twice: 1, 1"),
        ({"training": {"lr": 1.0}}, "unknown config key config.training.lr"),
        ({"training": {"layer_decay": 1.5}}, "too large; the most is 1.0"),
        ({"model": {"attention": "dot_product"}}, "attention_probs_dropout_prob = 0.0"),
        ({"task": "answering", "training": {"class_weights": "balanced"}}, "answering has no classes"),
        ({"parallel": {"data": 0}}, "sizes are positive"),
        ({"data": {"labels": "neg,pos,pos"}}, "data.labels has the same value twice: neg, pos, pos"),
        ({"data": {"separator": ""}}, "data.separator is empty"),
    ],
)
def test_mistakes(change, words):
    with pytest.raises(ConfigError, match=words):
        resolve(change)


def test_labels_are_a_list_of_names_or_none():
    config = default_config("classification")
    assert resolve(config).data.labels is None
    config.data.labels = "neg,pos"
    assert resolve(config).data.labels == ("neg", "pos")


def test_what_the_data_decides_is_no_key_of_the_identity(monkeypatch):
    monkeypatch.setattr(settings, "DECIDED_BY_DATA", ("training.class_weights",))
    items = identity_items(resolve({"task": "multi_label", "data": {"separator": "|"}}), {"train": "x"})
    assert (items["data.separator"], items["train"]) == ("|", "x") and "training.class_weights" not in items
