"""Intervals: the same for the same seed, as wide as theory says, and of the very scores they are named after."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.tasks.scores import COMPARED, SCORES, score_intervals
from bertjax.tasks.squad import question_examples

TAGS = ("O", "B-a", "I-a", "B-b", "I-b")


def interval(function, *arrays, **drawn):
    return score_intervals(lambda *rows: {"score": function(*rows)}, arrays, **drawn)["score"]


def test_an_interval_is_a_function_of_its_seed():
    values = np.random.default_rng(0).normal(size=50)
    assert interval(np.mean, values, seed=1) == interval(np.mean, values, seed=1)
    assert interval(np.mean, values, seed=1) != interval(np.mean, values, seed=2)


def test_the_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    low, high = interval(np.mean, values, seed=0, samples=4000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    # 4000 draws: the percentiles themselves vary by about 3 % of the half width.
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    narrow = interval(np.mean, values, seed=0, samples=4000, level=0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high


def test_arrays_are_drawn_together():
    values = np.arange(20.0)
    low, high = interval(lambda a, b: np.abs(a - b).max(), values, values, seed=0, samples=50)
    assert low == high == 0
    both = lambda rows: dict(zip("ab", rows.mean(0), strict=True))
    found = score_intervals(both, [np.stack([values, values + 100], 1)], seed=0, samples=50)
    np.testing.assert_allclose(found["b"], np.add(found["a"], 100))


@pytest.mark.parametrize("arrays", [(), (np.zeros(0),), (np.zeros(2), np.zeros(1))])
def test_arrays_of_different_lengths_are_refused(arrays):
    with pytest.raises(ValueError, match="must be of one length, at least 1"):
        interval(np.mean, *arrays, seed=0)


def questions():
    rows = [("red", ["red"]), ("red", ["red house"]), ("", []), ("guess", []), ("blue", ["green"])]
    items = [
        {
            "question": "?",
            "context": "red house green",
            "answers": [{"text": t, "answer_start": 0 + 10 * (t == "green")} for t in golds],
        }
        for _, golds in rows
    ]
    return {str(i): prediction for i, (prediction, _) in enumerate(rows)}, question_examples(items)


def cases():
    random = np.random.default_rng(5)
    labels = random.integers(4, size=60)
    noisy = np.where(random.random(60) < 0.7, labels, random.integers(4, size=60))
    tags = [random.integers(5, size=n) for n in random.integers(1, 9, size=40)]
    guesses = [np.where(random.random(len(row)) < 0.8, row, 0) for row in tags]
    numbers = random.integers(5, size=60) / 2
    yield "classification", noisy, labels, tuple("wxyz")
    yield "classification", noisy % 2, labels % 2, tuple("xy")
    yield "multi_label", (noisy[:, None] >> np.arange(2)) & 1, (labels[:, None] >> np.arange(2)) & 1, tuple("xy")
    yield "regression", numbers + random.normal(size=60), numbers, ("score",)
    yield "embedding", numbers + random.normal(size=60), numbers, ()
    yield "tagging", guesses, tags, TAGS
    yield "tagging", guesses, tags, tuple("vwxyz")
    yield "answering", *questions(), ()


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case[0])
def test_every_score_lies_in_its_interval(case):
    kind, predictions, labels, names = case
    compared = COMPARED[kind](predictions, labels, names)
    found = score_intervals(*compared, seed=3, samples=200)
    scores = SCORES[kind](predictions, labels, names)
    assert found.keys() == scores.keys()
    assert all(found[name][0] <= value <= found[name][1] for name, value in scores.items())
    assert found == score_intervals(*compared, seed=3, samples=200)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), classes=st.integers(2, 4), size=st.integers(1, 30))
def test_scores_of_a_draw_are_those_of_the_drawn_examples(data, classes, size):
    ids = st.lists(st.integers(0, classes - 1), min_size=size, max_size=size)
    predictions, labels, drawn = (np.array(data.draw(ids)) for _ in range(3))
    drawn = drawn * 7 % size
    names = tuple("wxyz"[:classes])
    bits = [
        np.eye(classes, dtype=int)[side] | np.eye(classes, dtype=int)[drawn % classes] for side in (predictions, labels)
    ]
    for kind, ours, theirs in (
        ("classification", predictions, labels),
        ("regression", predictions / 2, labels / 2),
        ("embedding", predictions / 2, labels / 2),
        ("multi_label", *bits),
    ):
        function, arrays = COMPARED[kind](ours, theirs, names)
        expected = SCORES[kind](ours[drawn], theirs[drawn], names)
        assert function(*(array[drawn] for array in arrays)) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), size=st.integers(1, 8))
def test_tags_of_a_draw_are_those_of_the_drawn_sentences(data, size):
    words = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6)
    sentences = data.draw(st.lists(words, min_size=size, max_size=size))
    drawn = data.draw(st.lists(st.integers(0, size - 1), min_size=size, max_size=size))
    predictions, labels = ([np.array(row)[:, side] for row in sentences] for side in (0, 1))
    function, arrays = COMPARED["tagging"](predictions, labels, TAGS)
    expected = SCORES["tagging"]([predictions[i] for i in drawn], [labels[i] for i in drawn], TAGS)
    assert function(*(array[drawn] for array in arrays)) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(drawn=st.lists(st.integers(0, 4), max_size=8), unanswerable=st.sampled_from([2, 3]))
def test_questions_of_a_draw_are_scored_as_the_drawn_questions(drawn, unanswerable):
    predictions, examples = questions()
    drawn = [*drawn, unanswerable]
    function, arrays = COMPARED["answering"](predictions, examples, ())
    expected = SCORES["answering"](predictions, [examples[i] for i in drawn], ())
    assert function(*(array[drawn] for array in arrays)) == pytest.approx(expected)


def test_draws_without_an_unanswerable_question_say_nothing_of_such():
    item = {"question": "?", "context": "red", "answers": [{"text": "red", "answer_start": 0}]}
    examples = question_examples([item] * 98 + [item | {"answers": []}] * 2)
    predictions = {example.id: "red" if example.answers else "" for example in examples}
    found = score_intervals(*COMPARED["answering"](predictions, examples, ()), seed=0, samples=200)
    assert len(found) == 6 and set(found.values()) == {(1.0, 1.0)}
