"""The official rules of SQuAD: cases by hand, and a second implementation that goes about it in another way."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.errors import DataError
from bertjax.tasks import squad_metrics
from bertjax.tasks.examples import Answer, QuestionExample
from bertjax.tasks.scores import SCORES
from bertjax.tasks.squad_metrics import word_tokens


def question(id, *answers):
    return QuestionExample(f"x.json:{id}", str(id), "?", "context", tuple(Answer(text, 0) for text in answers))


def best_scores(predictions, no_answer, questions):
    lead = np.array([no_answer[one.id] for one in questions])
    scores = squad_metrics.question_scores(predictions, questions)
    return squad_metrics.best_scores(*scores, squad_metrics.has_answer(questions), lead)


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("The  Cat!", "cat"),
        ("a\tco-op an\xa0the", "coop"),
        ("U.S. dollars", "us dollars"),
        ("The.End", "theend"),
        ("another theme", "another theme"),
        ("24–10", "24–10"),
        ("1st-a", "1sta"),
        ("THE A AN", ""),
        ("«ÉTÉ»", "«été»"),
    ],
)
def test_normal_forms(answer, normal):
    assert word_tokens(answer) == normal.split()


@pytest.mark.parametrize(
    ("prediction", "answer", "f1"),
    [
        ("red blue green", "the red, green yellow", 2 / 3),
        ("x x y", "x y y", 2 / 3),
        ("x x x", "x", 0.5),
        ("red", "blue", 0.0),
        ("The", "a", 0.0),
        ("the Broncos", "Denver Broncos", 2 / 3),
    ],
)
def test_f1_by_hand(prediction, answer, f1):
    assert squad_metrics.token_f1(prediction, answer) == pytest.approx(f1)
    assert squad_metrics.token_f1(answer, prediction) == pytest.approx(f1)


def test_the_best_of_several_answers_counts():
    questions = [question(1, "Denver", "Denver Broncos", "Broncos"), question(2, "gold"), question(3, "x")]
    scores = SCORES["answering"]({"1": "the Denver Broncos", "2": "gold medal"}, questions)
    assert scores == {"f1": pytest.approx((1 + 2 / 3 + 0) / 3), "exact_match": pytest.approx(1 / 3)}


def test_the_two_versions_differ_on_answers_without_words():
    predictions = {"1": "the", "2": ""}
    # 1.1: both are equal, and have no word in common. 2.0: that answer does not count, none is right, "the" says so.
    assert SCORES["answering"](predictions, [question(1, "A")]) == {"f1": 0.0, "exact_match": 1.0}
    assert SCORES["answering"](predictions, [question(1, "A"), question(2)])["has_answer_f1"] == 1.0


def test_questions_without_an_answer_by_hand():
    questions = [question(1, "red house"), question(2, "blue"), question(3), question(4)]
    predictions = {"1": "red", "2": "", "3": "", "4": "something"}
    assert SCORES["answering"](predictions, questions) == {
        "f1": pytest.approx((2 / 3 + 0 + 1 + 0) / 4),
        "exact_match": 0.25,
        "has_answer_f1": pytest.approx(1 / 3),
        "has_answer_exact_match": 0.0,
        "no_answer_f1": 0.5,
        "no_answer_exact_match": 0.5,
    }
    assert "has_answer_f1" not in SCORES["answering"]({"3": ""}, questions[2:3])


def test_thresholds_by_hand():
    questions = [question(1, "red"), question(2), question(3, "blue"), question(4)]
    predictions = {"1": "red", "2": "guess", "3": "green", "4": "guess"}
    no_answer = {"1": 0.2, "2": 0.7, "3": 0.4, "4": 0.9}
    # Answering 1 alone is best: 1 right, 2 and 4 rightly without answer, 3 wrongly so.
    expected = {"best_exact": 0.75, "best_exact_thresh": 0.2, "best_f1": 0.75, "best_f1_thresh": 0.2}
    assert best_scores(predictions, no_answer, questions) == expected
    # A part of an answer is worth more than nothing to F1 only.
    parted = [question(1, "red house"), *questions[1:3], question(5, "blue sky"), questions[3]]
    no_answer |= {"5": 0.5}
    best = best_scores({**predictions, "1": "red house", "5": "blue"}, no_answer, parted)
    assert best["best_exact_thresh"] == 0.2 and best["best_f1_thresh"] == 0.5


def test_nothing_answered_is_a_threshold_below_all():
    questions = [question(1, "red"), question(2), question(3)]
    predictions = {"1": "wrong", "2": "guess", "3": "guess"}
    for values, threshold in (([0.5, 0.2, 0.9], 0.0), ([-5.0, 1.0, 2.0], np.nextafter(-5.0, -np.inf))):
        best = best_scores(predictions, dict(zip("123", values, strict=True)), questions)
        assert best["best_f1"] == pytest.approx(2 / 3) and best["best_f1_thresh"] == threshold


def test_questions_of_contexts_without_tokens_lead_all_others():
    assert squad_metrics.null_margins([-2.0, np.inf, 3.0]).tolist() == [-2.0, 4.0, 3.0]
    assert squad_metrics.null_margins([np.inf]).tolist() == [1.0]


def test_missing_predictions_and_answers():
    assert SCORES["answering"]({}, [question(1, "x")]) == {"f1": 0.0, "exact_match": 0.0}
    with pytest.raises(DataError, match=r"x\.json:2: there is no prediction for question 2"):
        SCORES["answering"]({"1": "x"}, [question(1, "x"), question(2)])
    with pytest.raises(DataError, match=r"x\.json:5: question 5 has no answers to compare with"):
        SCORES["answering"]({"5": "x"}, [QuestionExample("x.json:5", "5", "?", "c", None)])


# The second implementation: word lists from single characters, F1 from removing matches one at a time, precision and
# recall kept apart, thresholds tried one by one.


def answer_tokenizer(text):
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    words, current = [], ""
    for c in kept + " ":
        # \b of the rule: articles end at whatever is no letter, digit or underscore.
        if c.isalnum() or c == "_":
            current += c
        else:
            words += [] if current in ("a", "an", "the", "") else [current]
            words += [] if c.isspace() else [("joined", c)]
            current = ""
    return words


def second_scores(prediction, golds, second_version):
    best_exact = best_f1 = 0.0
    ours = answer_tokenizer(prediction)
    lists = [answer_tokenizer(gold) for gold in golds]
    if second_version:
        lists = [theirs for theirs in lists if theirs] or [[]]
    for theirs in lists:
        left, common = list(theirs), 0
        for word in ours:
            if word in left:
                left.remove(word)
                common += 1
        if second_version and (not ours or not theirs):
            f1 = 1.0 if ours == theirs else 0.0
        elif common == 0:
            f1 = 0.0
        else:
            precision, recall = common / len(ours), common / len(theirs)
            f1 = 2 * precision * recall / (precision + recall)
        best_exact, best_f1 = max(best_exact, float(ours == theirs)), max(best_f1, f1)
    return best_exact, best_f1


TEXTS = st.lists(st.sampled_from(["red", "Red.", "blue", "the", "A", "an", "t'he", "-", "x-y", "xy", "1", ""])).map(
    " ".join
)
ANSWERED = st.lists(TEXTS.filter(str.strip), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, ANSWERED), min_size=1, max_size=8))
def test_version_1_equals_a_second_implementation(rows):
    questions = [question(i, *golds) for i, (_, golds) in enumerate(rows)]
    predictions = {str(i): prediction for i, (prediction, _) in enumerate(rows)}
    expected = np.array([second_scores(prediction, golds, False) for prediction, golds in rows])
    np.testing.assert_allclose(squad_metrics.question_scores(predictions, questions), expected.T, atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, st.one_of(ANSWERED, st.just([]))), min_size=1, max_size=8))
def test_version_2_equals_a_second_implementation(rows):
    rows = [*rows, ("", [])]
    questions = [question(i, *golds) for i, (_, golds) in enumerate(rows)]
    predictions = {str(i): prediction for i, (prediction, _) in enumerate(rows)}
    exact, f1 = np.array([second_scores(prediction, golds, True) for prediction, golds in rows]).T
    answered = np.array([bool(golds) for _, golds in rows])
    expected = {"f1": f1.mean(), "exact_match": exact.mean()}
    for name, chosen in (("has_answer", answered), ("no_answer", ~answered)):
        if chosen.any():
            expected |= {f"{name}_f1": f1[chosen].mean(), f"{name}_exact_match": exact[chosen].mean()}
    assert SCORES["answering"](predictions, questions) == pytest.approx(expected)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["red", "red blue", "green"]),
            st.sampled_from([[], ["red"], ["red blue"], ["blue"]]),
            st.integers(-3, 3).map(lambda n: n / 2),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_the_best_threshold_is_the_best_of_all(rows):
    rows = [*rows, ("red", [], 0.5)]
    questions = [question(i, *golds) for i, (_, golds, _) in enumerate(rows)]
    predictions = {str(i): prediction for i, (prediction, _, _) in enumerate(rows)}
    values = np.array([value for _, _, value in rows])
    best = best_scores(predictions, {str(i): value for i, value in enumerate(values)}, questions)
    nothing = np.array([float(not golds) for _, golds, _ in rows])
    for name, scores in zip(("exact", "f1"), squad_metrics.question_scores(predictions, questions), strict=True):
        with_threshold = lambda threshold, scores=scores: np.where(values > threshold, nothing, scores).mean()
        assert best[f"best_{name}"] == pytest.approx(max(map(with_threshold, (-9, *values))))
        assert best[f"best_{name}"] == pytest.approx(with_threshold(best[f"best_{name}_thresh"]))
