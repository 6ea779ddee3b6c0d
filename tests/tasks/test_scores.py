"""Every score against the library it is named after, on random cases and on cases worked out by hand."""

from __future__ import annotations

import json
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from seqeval import metrics as seqeval
from sklearn import metrics

from bertjax.tasks.scores import MOST_OF_MATRIX, SCORES, are_entities, per_class
from bertjax.tasks.squad import question_examples

TAGS = ("O", "B-a", "B-b", "I-a", "I-b")


def ids(classes, size=40):
    pair = st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1))
    return st.lists(pair, min_size=1, max_size=size).map(lambda pairs: tuple(np.array(pairs).T))


def quiet(function, *arguments, **keywords):
    """What a library warns of (classes without examples) is 0 on both sides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **keywords)


def agree(scores, expected):
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        assert scores[name] == pytest.approx(0 if np.isnan(value) else value, abs=1e-12), name


@settings(max_examples=60, deadline=None)
@given(pairs=st.integers(2, 5).flatmap(lambda classes: st.tuples(st.just(classes), ids(classes))))
def test_classification_is_scikit_learns(pairs):
    classes, (predictions, labels) = pairs
    expected = {
        "accuracy": metrics.accuracy_score(labels, predictions),
        "f1_macro": quiet(metrics.f1_score, labels, predictions, average="macro"),
        "mcc": quiet(metrics.matthews_corrcoef, labels, predictions),
    }
    if classes == 2:
        for name in ("f1", "precision", "recall"):
            expected[name] = quiet(getattr(metrics, f"{name}_score"), labels, predictions)
    names = tuple("vwxyz"[:classes])
    agree(SCORES["classification"](predictions, labels, names), expected)
    found = per_class("classification", predictions, labels, names)
    matrix = metrics.confusion_matrix(labels, predictions, labels=range(classes))
    assert found["labels"] == list(names) and found["confusion"] == matrix.tolist()
    report = quiet(metrics.classification_report, labels, predictions, labels=range(classes), output_dict=True)
    for i, name in enumerate(names):
        theirs = report[str(i)]
        agree(found["per_class"][name], {"f1" if k == "f1-score" else k: v for k, v in theirs.items()})


def test_many_labels_stay_linear():
    """Neither the time nor what is kept of an evaluation grows with the square of the number of labels."""
    sizes, seconds = {}, {}
    for classes in (500, 4000):
        names = [f"label {number}" for number in range(classes)]
        random = np.random.default_rng(0)
        for kind in ("classification", "tagging", "multi_label"):
            labels = random.integers(0, classes, 3000)
            predictions = np.where(random.random(3000) < 0.5, labels, random.integers(0, classes, 3000))
            if kind == "tagging":
                labels, predictions = np.split(labels, 30), np.split(predictions, 30)
            if kind == "multi_label":
                labels, predictions = (random.random((300, classes)) < 0.01 for _ in range(2))
            began = time.perf_counter()
            SCORES[kind](predictions, labels, names)
            sizes[kind, classes] = len(json.dumps(per_class(kind, predictions, labels, names)))
            seconds[kind, classes] = time.perf_counter() - began
    for kind in ("classification", "tagging", "multi_label"):
        assert sizes[kind, 4000] < 10 * sizes[kind, 500] and sizes[kind, 4000] < 4000 * 250
        assert seconds[kind, 4000] < 2, seconds


@pytest.mark.parametrize("classes", [MOST_OF_MATRIX, MOST_OF_MATRIX + 1])
def test_the_commonest_confusions_of_many_labels(classes):
    names = [str(number) for number in range(classes)]
    labels = np.array([5] * 8 + [7] * 4 + [9] * 3)
    predictions = np.array([6] * 3 + [5] * 5 + [8] * 4 + [9, 9, 6])
    found = per_class("classification", predictions, labels, names)
    if classes == MOST_OF_MATRIX:
        assert found["confusion"][5][6] == 3 and "confusions" not in found
        return
    assert found["confusion"] == []
    assert found["confusions"] == [
        {"label": "7", "predicted": "8", "count": 4, "share": 1.0},
        {"label": "5", "predicted": "6", "count": 3, "share": 3 / 8},
        {"label": "9", "predicted": "6", "count": 1, "share": 1 / 3},
    ]


def test_classification_by_hand():
    predictions, labels = [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 1]
    scores = SCORES["classification"](predictions, labels, ("no", "yes"))
    of_yes = dict.fromkeys(("f1", "precision", "recall"), 2 / 3)
    agree(scores, {"accuracy": 4 / 6, "f1_macro": 2 / 3, "mcc": 1 / 3, **of_yes})
    assert next(iter(scores)) == "accuracy"
    # A model that always says the same is worth nothing by this one.
    assert SCORES["classification"]([1, 1, 1], [1, 1, 0], ("no", "yes"))["mcc"] == 0
    found = per_class("classification", predictions, labels, ("no", "yes"))
    assert found["confusion"] == [[2, 1], [1, 2]] and found["per_class"]["yes"]["support"] == 3


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rows=st.integers(1, 20), columns=st.integers(1, 4))
def test_multi_label_is_scikit_learns(data, rows, columns):
    bits = st.lists(st.integers(0, 1), min_size=rows * columns, max_size=rows * columns)
    predictions, labels = (np.array(data.draw(bits)).reshape(rows, columns) for _ in range(2))
    names = tuple("wxyz"[:columns])
    scores = SCORES["multi_label"](predictions, labels, names)
    truth = (predictions, labels) if columns > 1 else (predictions[:, 0], labels[:, 0])
    assert scores["exact_match"] == pytest.approx(metrics.accuracy_score(*truth))
    each = [quiet(metrics.f1_score, labels[:, i], predictions[:, i]) for i in range(columns)]
    assert scores["f1_macro"] == pytest.approx(np.mean(each))
    assert scores["f1_micro"] == pytest.approx(quiet(metrics.f1_score, labels.ravel(), predictions.ravel()))
    found = per_class("multi_label", predictions, labels, names)
    assert [figures["f1"] for figures in found["per_class"].values()] == pytest.approx(each)
    assert found["confusion"] == []


NUMBERS = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=30))
def test_regression_is_scipys(pairs):
    predictions, labels = np.array(pairs).T
    expected = {
        "pearson": quiet(stats.pearsonr, predictions, labels)[0],
        "spearman": quiet(stats.spearmanr, predictions, labels)[0],
        "mse": metrics.mean_squared_error(labels, predictions),
    }
    agree(SCORES["regression"](predictions, labels, ("score",)), expected)
    similarity = SCORES["embedding"](predictions, labels, ())
    assert list(similarity) == ["spearman", "pearson"]
    agree(similarity, {name: expected[name] for name in similarity})


def test_regression_by_hand():
    scores = SCORES["regression"]([1, 2, 3, 10], [1, 2, 4, 3], ())
    assert scores["spearman"] == pytest.approx(0.8) and scores["mse"] == pytest.approx((1 + 49) / 4)
    assert SCORES["regression"]([1, 1], [1, 2], ()) == {"pearson": 0.0, "spearman": 0.0, "mse": 0.5}


SENTENCES = st.lists(st.lists(st.tuples(*[st.integers(0, len(TAGS) - 1)] * 2), min_size=1, max_size=12), min_size=1)


@settings(max_examples=100, deadline=None)
@given(sentences=SENTENCES)
def test_tagging_is_seqevals(sentences):
    predictions, labels = ([[pair[side] for pair in row] for row in sentences] for side in (0, 1))
    ours, theirs = ([[TAGS[i] for i in row] for row in rows] for rows in (predictions, labels))
    expected = {
        "f1": quiet(seqeval.f1_score, theirs, ours),
        "precision": quiet(seqeval.precision_score, theirs, ours),
        "recall": quiet(seqeval.recall_score, theirs, ours),
        "accuracy": seqeval.accuracy_score(theirs, ours),
    }
    agree(SCORES["tagging"](predictions, labels, TAGS), expected)
    found = per_class("tagging", predictions, labels, TAGS)
    assert list(found["per_class"]) == ["a", "b"] and np.sum(found["confusion"]) == sum(map(len, sentences))
    if any(tag != "O" for row in theirs + ours for tag in row):
        report = quiet(seqeval.classification_report, theirs, ours, output_dict=True)
        for name, figures in found["per_class"].items():
            row = report.get(name, {"precision": 0, "recall": 0, "f1-score": 0, "support": 0})
            agree(figures, {"f1" if k == "f1-score" else k: v for k, v in row.items()})


def test_an_entity_is_right_as_a_whole():
    labels = [[1, 3, 0, 2, 0]]  # a a . b .
    predictions = [[1, 0, 0, 2, 0]]
    scores = SCORES["tagging"](predictions, labels, TAGS)
    assert scores == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.8}
    assert next(iter(scores)) == "f1"


def test_tags_that_are_no_entities_have_an_accuracy_only():
    assert SCORES["tagging"]([[0, 1], [1]], [[0, 0], [1]], ("NOUN", "VERB")) == {"accuracy": 2 / 3}
    found = per_class("tagging", [[0, 1], [1]], [[0, 0], [1]], ("NOUN", "VERB"))
    assert found["confusion"] == [[1, 1], [0, 1]] and found["per_class"]["NOUN"]["recall"] == 0.5
    assert are_entities(("O", "B-x", "S-x")) and not are_entities(("O", "X"))


def test_answering_is_in_fractions():
    context = {"context": "red blue", "answers": [{"text": "red blue", "answer_start": 0}]}
    questions = question_examples([{"question": "?", **context}, {"question": "!", **context}])
    scores = SCORES["answering"]({"0": "The red blue.", "1": "red"}, questions, ())
    assert scores == {"f1": (1 + 2 / 3) / 2, "exact_match": 0.5} and next(iter(scores)) == "f1"
    assert per_class("answering", {}, questions, ()) == {}


def test_predictions_must_fit_the_labels():
    with pytest.raises(ValueError, match="must be of one shape, not empty"):
        SCORES["classification"]([0], [0, 1], ("a", "b"))
    with pytest.raises(ValueError, match="must be of one shape, not empty"):
        SCORES["regression"]([], [], ())
    with pytest.raises(ValueError, match="sentence 1 has 2 labels and 1 predictions"):
        SCORES["tagging"]([[0], [0]], [[0], [0, 1]], ("a", "b"))
