import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.tasks.windows import AnswerCandidate, QuestionWindows, all_answers, question_rows, question_windows
from bertjax.text.vocabulary import train_tokenizer

TEXTS = ["The cat sat on the mat, and the dog sat on the log.", "Who sat on the mat? café naïve"] * 5
ODD = list("a the cat İé日本🙂👩‍👧\u0301\u200b\u200d\ufeff\ufe0f½ﬁ\u00a0\t\n`'\"-.,")


@pytest.fixture(scope="module", params=["wordpiece", "sentencepiece"])
def tokenizer(request):
    return train_tokenizer(request.param, TEXTS, 300, lowercase=True)


def pointing_at(asked, begin, end):
    """Logits that are high at the tokens that hold the first and the last character of context[begin:end]."""
    first = next(i for i, (_, right) in enumerate(asked.spans) if right > begin)
    last = max(i for i, (left, _) in enumerate(asked.spans) if left < end)
    logits = []
    for row in asked.rows:
        values = np.zeros((len(row.input_ids) + 3, 2), np.float32)  # padded
        for side, token in enumerate((first, last)):
            if row.window.begin <= token < row.window.end:
                values[row.first + token - row.window.begin, side] = 10
        logits.append(values)
    return logits


@pytest.mark.parametrize("answer", ["The cat", "mat", "dog", "İce cafe\u0301", "ﬁne", "日", "🙂"])
def test_an_answer_is_the_callers_own_text(tokenizer, answer):
    context = "The cat  sat\non the mat,\tthen the DOG dog: İce cafe\u0301! ﬁne 日本 🙂 end of it."
    (asked,) = question_windows(tokenizer, ["Who?"], [context], max_length=30, stride=8, max_question=10)
    begin = context.index(answer)
    (found,) = all_answers([asked], pointing_at(asked, begin, begin + len(answer)), 30, with_none=False)
    best = found.answers[0]
    assert (best.text, best.start, best.end) == (answer, begin, begin + len(answer))
    assert best.score == 20 and best.probability > 0.99
    assert found.no_answer.probability == 0 and sum(a.probability for a in found.answers) == pytest.approx(1)


@settings(max_examples=100, deadline=None)
@given(context=st.text(st.sampled_from(ODD), max_size=60), seed=st.integers(0, 5))
def test_every_candidate_is_a_part_of_the_context(tokenizer, context, seed):
    (asked,) = question_windows(tokenizer, ["who sat"], [context], max_length=16, stride=3, max_question=4)
    random = np.random.default_rng(seed)
    (found,) = all_answers(
        [asked], [random.normal(size=(len(row.input_ids), 2)) for row in asked.rows], 5, with_none=True
    )
    assert bool(found.answers) == bool(asked.spans)
    for answer in found.answers:
        assert answer.text == context[answer.start : answer.end] and answer.text == answer.text.strip()
    places = [(answer.start, answer.end) for answer in found.answers]
    assert len(set(places)) == len(places) <= 20
    everything = [*(answer.probability for answer in found.answers), found.no_answer.probability]
    assert sum(everything) == pytest.approx(1)


def test_no_answer_by_the_threshold(tokenizer):
    (asked,) = question_windows(tokenizer, ["Who?"], ["the cat sat"], max_length=30, stride=8, max_question=10)
    logits = np.zeros((len(asked.rows[0].input_ids), 2))
    logits[0] = 2, 1  # of [CLS]
    logits[asked.rows[0].first] = 1, 0
    (found,) = all_answers([asked], [logits], 30, with_none=True)
    assert found.no_answer.score == 3 and found.answers[0].score == 1
    assert found.best(None) is found.best(2.0) is found.answers[0]
    assert found.best(1.9) is found.no_answer and found.no_answer.start is None and found.no_answer.text == ""


def test_no_answer_counts_by_its_lowest_score():
    rows = question_rows([5], [6] * 12, 1, 2, max_length=12, shared=3)
    asked = QuestionWindows("abcdefghijkl", [(at, at + 1) for at in range(12)], rows)
    logits = np.zeros((len(rows), 12, 2))
    logits[:2, 0] = [3.0, 0.5], [1, -2]
    logits[2:, 0] = 4
    (found,) = all_answers([asked], logits, 4, with_none=True)
    assert found.no_answer.score == -1.0


def test_a_context_without_words_has_no_answer(tokenizer):
    (asked,) = question_windows(tokenizer, ["Who?"], [" \n"], max_length=30, stride=8, max_question=10)
    (found,) = all_answers([asked], [np.ones((len(asked.rows[0].input_ids), 2))], 30, with_none=False)
    assert found.best(None) == AnswerCandidate("", None, None, 2.0, 1.0)


def test_the_question_is_cut(tokenizer):
    (asked,) = question_windows(
        tokenizer, ["the cat sat on the mat"], ["the dog"], max_length=60, stride=8, max_question=3
    )
    assert asked.rows[0].input_ids[1:4] == tokenizer.encode("the cat sat on the mat")[:3]
    assert asked.rows[0].first == 5
