"""What a score means, or that it means nothing, is said where a model is evaluated."""

import io
import json

import numpy as np
import pytest
from flax import nnx
from rich.console import Console

import bertjax
from bertjax.errors import ModelFileError
from bertjax.evaluate import print_result
from bertjax.model.task import TaskConfig, TaskModel

TEXTS = ["The cat sat.", "The dog laughs.", "Paris is famous.", "Reading is fun."]
PAIRS = list(zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True))


@pytest.fixture(scope="module")
def made(model):
    return lambda kind, labels=(), **settings: TaskModel(
        model.config, TaskConfig(kind, labels, max_length=40, **settings), nnx.Rngs(1)
    )


def always(model, output):
    """The model with a head that says the same of every text."""
    model.classifier.kernel[...] = np.zeros_like(model.classifier.kernel[...])
    model.classifier.bias[...] = np.array(output, np.float32)
    return model


def shown(result):
    console = Console(record=True, width=100, file=io.StringIO())
    print_result(result, {}, console)
    return console.export_text()


def test_the_positive_label_is_that_of_the_model_or_of_the_names(made, tokenizer, tmp_path):
    labels = ["pos", "neg", "neg", "neg"]
    score = lambda model: bertjax.evaluate.run(model, "task", (TEXTS, labels), tokenizer=tokenizer)
    own = always(made("classification", ("neg", "pos"), positive_label="neg"), [1.0, 0.0])
    result = score(own)
    assert result["facts"]["positive_label"] == "neg" and result["scores"]["precision"]["value"] == 0.75
    assert "f1 of 'neg'" in shown(result) and "positive label neg" in shown(result)
    by_name = score(always(made("classification", ("neg", "pos")), [1.0, 0.0]))
    assert by_name["facts"]["positive_label"] == "pos" and by_name["scores"]["f1"]["value"] == 0.0
    assert by_name["undefined"] == {"mcc": "all predictions are 'neg'", "precision": "'pos' is never predicted"}
    assert not {"mcc", "precision"} & set(by_name["scores"])
    assert by_name["warnings"] == ["never predicted, so that their F1 is 0: 'pos' (1 of 2 labels)"]
    assert "mcc is undefined: all predictions are 'neg'" in shown(by_name)
    json.dumps(by_name)
    bertjax.save_task_model(own, tmp_path / "model", tokenizer)
    assert bertjax.load_task_model(tmp_path / "model")[0].task.positive_label == "neg"
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"positive_label": "neg"', '"positive_label": "maybe"'))
    with pytest.raises(ModelFileError, match="positive_label = 'maybe' is not one of the labels"):
        bertjax.load_task_model(tmp_path / "model")


def test_one_class_alone_is_said(made, tokenizer):
    model = made("classification", ("neg", "pos"))
    result = bertjax.evaluate.run(model, "task", (TEXTS, ["pos"] * 4), tokenizer=tokenizer)
    assert result["undefined"]["mcc"] == "all labels are 'pos'"


def test_a_constant_correlates_with_nothing(made, tokenizer, monkeypatch):
    model = always(made("regression", ("score",)), [2.5])
    result = bertjax.evaluate.run(model, "task", (PAIRS, [1.0, 2.0, 3.0, 4.0]), tokenizer=tokenizer)
    assert list(result["scores"]) == ["mse"] and set(result["undefined"]) == {"pearson", "spearman"}
    assert "pearson is undefined: all predictions are 2.5" in shown(result)
    same = [("The cat sat.", "The cat sat.")] * 4
    with pytest.raises(ModelFileError, match=r"it has no score: .*spearman is undefined, as all predictions are 1"):
        bertjax.evaluate.run(made("embedding"), "task", (same, [1.0, 2.0, 3.0, 4.0]), tokenizer=tokenizer)
    with pytest.raises(ModelFileError, match="spearman is undefined, as all predictions are 1"):
        data = [(*pair, score) for pair, score in zip(same, [1.0, 2.0, 3.0, 4.0], strict=True)]
        bertjax.evaluate.run(made("embedding").bert, "sts", data, tokenizer=tokenizer)
