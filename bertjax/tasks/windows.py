"""Windows over long texts, the rows a model reads, and answers as spans of tokens, from logits to text.

Training, evaluation and inference share them. Positions are those of tokens; spans are half open, (begin, end).
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from bertjax.text.interface import Tokenizer
from bertjax.text.offsets import Offsets

# The softmax over answers takes so many of the best: n_best_size in run_squad.py of the original code.
N_BEST = 20


class Window(NamedTuple):
    """Tokens ``begin`` .. ``end`` - 1 of a text."""

    begin: int
    end: int


def windows(length: int, room: int, shared: int) -> list[Window]:
    """Windows of at most ``room`` tokens over a text of ``length``; neighbours share ``shared`` tokens, but never more
    than half, which keeps their number small. The last one ends with the text; an empty text has an empty one."""
    step = room - min(shared, room // 2)
    begins = range(0, max(length - room, 0) + step, step)
    return [Window(begin, min(begin + room, length)) for begin in begins if begin == 0 or begin - step + room < length]


def most_context(over: Sequence[Window]) -> np.ndarray:
    """For each token, int [length]: the window in which it has the most context; the first of equals. That is the
    smaller of the numbers of tokens before and after, plus a hundredth of the window's length (_check_is_max_context
    of run_squad.py)."""
    chosen = np.zeros(max(window.end for window in over), np.int64)
    best = np.full(len(chosen), -np.inf)
    for number, (begin, end) in enumerate(over):
        tokens = np.arange(begin, end)
        context = np.minimum(tokens - begin, end - 1 - tokens) + 0.01 * (end - begin)
        better = context > best[begin:end]
        chosen[begin:end][better] = number
        best[begin:end][better] = context[better]
    return chosen


class WordRow(NamedTuple):
    """[CLS] pieces [SEP]. words: by number, those whose tag is read here; positions: where, at their first pieces."""

    input_ids: list[int]
    words: list[int]
    positions: list[int]


def word_rows(pieces: Sequence[Sequence[int]], cls_id: int, sep_id: int, max_length: int) -> list[WordRow]:
    """The rows, of ``max_length`` tokens at most, of words given as their pieces (at least one each). Windows share a
    quarter of a row; a word's tag is read in the window where its first piece has the most context. Raises ValueError
    if a row has no room."""
    if max_length < 8:
        raise ValueError(f"max_length = {max_length} is too small; the least is 8")
    flat = [piece for word in pieces for piece in word]
    firsts = np.cumsum([0, *map(len, pieces)])[:-1]
    over = windows(len(flat), max_length - 2, (max_length - 2) // 4)
    chosen = most_context(over)
    rows = []
    for number, (begin, end) in enumerate(over):
        words = np.flatnonzero((firsts >= begin) & (firsts < end))
        words = words[chosen[firsts[words]] == number]
        positions = firsts[words] - begin + 1
        rows.append(WordRow([cls_id, *flat[begin:end], sep_id], words.tolist(), positions.tolist()))
    return rows


class QuestionRow(NamedTuple):
    """[CLS] question [SEP] window of the context [SEP]; its token t is at position t - window.begin + first."""

    input_ids: list[int]
    token_type_ids: list[int]
    window: Window
    first: int


def question_rows(
    question: Sequence[int], context: Sequence[int], cls_id: int, sep_id: int, max_length: int, shared: int
) -> list[QuestionRow]:
    """The rows, of ``max_length`` tokens at most, that ask a question about a context; both as ids. A question that
    would take more than half of a row is truncated. Raises ValueError if a row has no room."""
    if max_length < 8:
        raise ValueError(f"max_length = {max_length} is too small; the least is 8")
    head = [cls_id, *question[: (max_length - 3) // 2], sep_id]
    rows = []
    for window in windows(len(context), max_length - len(head) - 1, shared):
        part = [*context[window.begin : window.end], sep_id]
        rows.append(QuestionRow(head + part, [0] * len(head) + [1] * len(part), window, len(head)))
    return rows


class Span(NamedTuple):
    """An answer: tokens ``begin`` .. ``end`` - 1 of the context. score: start logit + end logit."""

    begin: int
    end: int
    score: float


def best_spans(rows: Sequence[QuestionRow], logits: Iterable[np.ndarray], n_best: int, longest: int) -> list[Span]:
    """The ``n_best`` spans of ``longest`` tokens at most with the highest scores over all rows of one question. logits:
    of each row, float [at least its length, 2]. An answer starts in the window in which its first token has the most
    context, so that none is counted twice. Ties: the earlier, then the shorter."""
    chosen = most_context([row.window for row in rows])
    found: list[Span] = []
    for number, (row, output) in enumerate(zip(rows, logits, strict=True)):
        begin, size = row.window.begin, row.window.end - row.window.begin
        if not size:
            continue
        first, last = np.asarray(output[row.first : row.first + size], np.float64).T
        first = np.where(chosen[begin : begin + size] == number, first, -np.inf)
        reach = min(longest, size)
        # [size, reach]: the end logit so many tokens on, -inf beyond the window.
        ahead = np.lib.stride_tricks.sliding_window_view(np.append(last, np.full(reach - 1, -np.inf)), reach)
        scores = (first[:, None] + ahead).ravel()
        for index in _highest(scores, min(n_best, scores.size)):
            if scores[index] > -np.inf:
                at, more = divmod(int(index), reach)
                found.append(Span(begin + at, begin + at + more + 1, float(scores[index])))
    return sorted(found, key=lambda span: (-span.score, span.begin, span.end))[:n_best]


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    least = np.partition(scores, -count)[-count]
    candidates = np.flatnonzero(scores >= least)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]


class QuestionWindows(NamedTuple):
    """The rows of a question. spans: the place of each token of the context, in characters."""

    context: str
    spans: list[Offsets]
    rows: list[QuestionRow]


@dataclass(frozen=True)
class AnswerCandidate:
    """context[start:end]; both are None, and the text "", for no answer. score: start logit + end logit. probability:
    the softmax of the scores over the best answers, and no answer if that is allowed."""

    text: str
    start: int | None
    end: int | None
    score: float
    probability: float


class RankedAnswers(NamedTuple):
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
    """Each question about the context beside it, in rows of ``max_length`` tokens at most. stride: tokens that two
    windows of a context share. max_question: tokens that are kept of a question."""
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
    """Answers of ``max_answer`` tokens at most to each question. logits: those of all their rows, in order, float [at
    least the row's length, 2]. with_none: whether no answer takes part in the softmax."""
    outputs, ranked = iter(logits), []
    for context, spans, rows in asked:
        own = list(itertools.islice(outputs, len(rows)))
        by_place: dict[Offsets, float] = {}  # pieces of one character share its place; the best comes first
        for span in best_spans(rows, own, N_BEST, max_answer):
            by_place.setdefault((spans[span.begin][0], spans[span.end - 1][1]), span.score)
        null = float(min(start + end for start, end in (output[0] for output in own)))  # at [CLS]
        is_candidate = with_none or not by_place
        shares = softmax([*by_place.values(), *([null] if is_candidate else [])])
        answers = [
            AnswerCandidate(context[begin:end], begin, end, score, float(share))
            for ((begin, end), score), share in zip(by_place.items(), shares, strict=False)
        ]
        no_answer = AnswerCandidate("", None, None, null, float(shares[-1]) if is_candidate else 0.0)
        ranked.append(RankedAnswers(answers, no_answer))
    return ranked
