"""Extractive question answering: from questions and contexts to the rows a model reads, and from logits to answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from bertjax.tasks.spans import QuestionRow, best_spans, null_score, question_rows
from bertjax.text.interface import Tokenizer
from bertjax.text.offsets import Offsets

# The softmax over answers takes so many of the best: n_best_size in run_squad.py of the original code.
N_BEST = 20


@dataclass(frozen=True)
class QuestionWindows:
    """The rows of a question. spans: the place of each token of the context, in characters."""

    context: str
    spans: list[Offsets]
    rows: list[QuestionRow]


@dataclass(frozen=True)
class AnswerCandidate:
    """context[start:end]; both are None, and the text "", for no answer. score: start logit + end logit.

    probability: the softmax of the scores over the best answers, and no answer if that is allowed.
    """

    text: str
    start: int | None
    end: int | None
    score: float
    probability: float


@dataclass(frozen=True)
class RankedAnswers:
    """Answers, best first (none if the context has no tokens), and no answer."""

    answers: list[AnswerCandidate]
    no_answer: AnswerCandidate

    @property
    def null_margin(self) -> float:
        """By how much the score of no answer exceeds that of the best answer; infinite if there is no answer."""
        return self.no_answer.score - self.answers[0].score if self.answers else float("inf")

    def best(self, null_threshold: float | None) -> AnswerCandidate:
        """The best answer, or no answer if its score is more than ``null_threshold`` higher. None: always an answer."""
        is_none = not self.answers or (null_threshold is not None and self.null_margin > null_threshold)
        return self.no_answer if is_none else self.answers[0]


def question_windows(
    tokenizer: Tokenizer,
    questions: Sequence[str],
    contexts: Sequence[str],
    *,
    max_length: int,
    stride: int,
    max_question: int,
) -> list[QuestionWindows]:
    """Each question about the context beside it, in rows of ``max_length`` tokens at most.

    stride: tokens that two windows of a context share. max_question: tokens that are kept of a question.
    """
    distinct = list(dict.fromkeys(contexts))
    places = dict(zip(distinct, tokenizer.encode_with_offsets(distinct), strict=True))
    asked = []
    for question, context in zip(tokenizer.encode_batch(questions), contexts, strict=True):
        ids, spans = places[context]
        rows = question_rows(question[:max_question], ids, tokenizer.cls_id, tokenizer.sep_id, max_length, stride)
        asked.append(QuestionWindows(context, spans, rows))
    return asked


def all_answers(
    asked: Sequence[QuestionWindows], logits: Iterable[np.ndarray], max_answer: int, with_none: bool
) -> list[RankedAnswers]:
    """``find_answers`` for each question; logits: those of all their rows, in order."""
    rows = iter(logits)
    return [find_answers(one, [next(rows) for _ in one.rows], max_answer, with_none) for one in asked]


def find_answers(
    asked: QuestionWindows, logits: Sequence[np.ndarray], max_answer: int, with_none: bool
) -> RankedAnswers:
    """Answers of ``max_answer`` tokens at most from the logits of each row, float [at least its length, 2].

    with_none: whether no answer takes part in the softmax.
    """
    starts, ends = ([row[:, side] for row in logits] for side in (0, 1))
    by_place: dict[Offsets, float] = {}  # pieces of one character share its place; the best comes first
    for span in best_spans(asked.rows, starts, ends, N_BEST, max_answer):
        place = asked.spans[span.begin][0], asked.spans[span.end - 1][1]
        by_place.setdefault(place, span.score)
    null = null_score(starts, ends)
    with_none = with_none or not by_place
    shares = softmax([*by_place.values(), *([null] if with_none else [])])
    answers = [
        AnswerCandidate(asked.context[begin:end], begin, end, score, float(share))
        for ((begin, end), score), share in zip(by_place.items(), shares, strict=False)
    ]
    return RankedAnswers(answers, AnswerCandidate("", None, None, null, float(shares[-1]) if with_none else 0.0))
