"""Scores that mean nothing are named, with the reason."""

import numpy as np
import pytest

from bertjax.tasks.scores import SCORES, always_undefined, are_equal, format_scores, never_predicted, undefined_scores

NAMES = ("no", "yes")


@pytest.mark.parametrize(
    ("predictions", "labels", "expected"),
    [
        ([0, 1, 0], [0, 1, 1], {}),
        ([0, 0, 0], [0, 1, 1], {"mcc": "all predictions are 'no'", "precision": "'yes' is never predicted"}),
        ([0, 1, 0], [1, 1, 1], {"mcc": "all labels are 'yes'"}),
        ([0, 1, 0], [0, 0, 0], {"mcc": "all labels are 'no'", "recall": "no example has the label 'yes'"}),
        (
            [0, 0],
            [0, 0],
            {
                "mcc": "all labels are 'no'",
                "precision": "'yes' is never predicted",
                "recall": "no example has the label 'yes'",
                "f1": "'yes' neither occurs nor is predicted",
            },
        ),
    ],
)
def test_of_two_classes(predictions, labels, expected):
    assert undefined_scores("classification", predictions, labels, NAMES, 1) == expected
    # What is undefined has the value 0; what is 0 and defined is not named.
    scores = SCORES["classification"](predictions, labels, NAMES, positive=1)
    assert all(scores[name] == 0 for name in expected)
    always = always_undefined("classification", labels, NAMES, 1)
    assert set(always) <= set(expected) and ("mcc" in always) == (len(set(labels)) == 1)


def test_the_positive_label_is_the_one_that_is_scored():
    predictions, labels = [0, 0, 0, 1], [0, 1, 0, 1]
    first, second = (SCORES["classification"](predictions, labels, NAMES, positive=one) for one in (0, 1))
    assert first["precision"] == pytest.approx(2 / 3) and first["recall"] == 1 and first["f1"] == pytest.approx(0.8)
    assert second["precision"] == 1 and second["recall"] == 0.5 and second["f1"] == pytest.approx(2 / 3)
    assert SCORES["classification"](predictions, labels, NAMES) == second
    assert "f1" not in SCORES["classification"]([0], [2], ("a", "b", "c"))


@pytest.mark.parametrize("kind", ["regression", "embedding"])
def test_of_numbers(kind):
    of = lambda *pair: undefined_scores(kind, *map(np.array, pair))
    assert of([1.0, 2.0], [1.0, 2.0]) == {}
    assert of([3.25, 3.25], [1.0, 2.0]) == dict.fromkeys(("pearson", "spearman"), "all predictions are 3.25")
    assert of([1.0, 2.0], [5.0, 5.0])["pearson"] == "all labels are 5"
    assert of([1.0], [2.0])["spearman"] == "there is one example"
    assert always_undefined(kind, np.array([5.0, 5.0]))["pearson"] == "all labels are 5"
    assert always_undefined(kind, np.array([5.0, 4.0])) == {}


def test_predictions_that_differ_by_rounding_are_one():
    """A model that says the same of all texts does so but for the last bit, by the lengths of its batches."""
    random = np.random.default_rng(0)
    labels, predictions = random.normal(size=50), np.float32(2.7) + random.integers(-1, 2, 50).astype(np.float32) * 2e-7
    assert len(set(predictions.tolist())) > 1 and are_equal(predictions)
    assert "pearson" in undefined_scores("regression", predictions, labels)
    assert SCORES["regression"](predictions, labels)["pearson"] == 0.0
    assert not are_equal(np.array([2.7, 2.70001], np.float32)) and are_equal(np.zeros(3))


def test_of_several_labels_and_of_labels_that_are_never_predicted():
    zeros = np.zeros((3, 2), int)
    assert undefined_scores("multi_label", zeros, zeros, NAMES) == {
        "f1_micro": "no label occurs, and none is predicted"
    }
    there = np.array([[0, 1]] * 3)
    assert undefined_scores("multi_label", zeros, there, NAMES) == {}
    (line,) = never_predicted("multi_label", zeros, there, NAMES)
    assert line == "never predicted, so that their F1 is 0: 'yes' (1 of 2 labels)"
    (line,) = never_predicted("classification", [0] * 12, range(12), [str(n) for n in range(12)])
    assert line.endswith("'10' and 1 more (11 of 12 labels)")
    assert never_predicted("classification", [0, 1], [0, 0], NAMES) == []
    sentences = [np.zeros(2, np.int32), np.zeros(1, np.int32)]
    assert never_predicted("tagging", sentences, sentences, NAMES) == []


def test_words():
    scores = {"accuracy": 0.5, "f1_macro": 1 / 3, "mcc": 0.0, "f1": 0.0}
    line = format_scores(scores, {"mcc": "all predictions are 'no'"}, "yes", {"accuracy": " (0.5 is always 'no')"})
    assert line == (
        "accuracy 0.5000 (0.5 is always 'no'), f1 macro 0.3333, f1 of 'yes' 0.0000, "
        "mcc undefined (all predictions are 'no')"
    )
    assert format_scores({"f1": 1.0}, {}) == "f1 1.0000"
