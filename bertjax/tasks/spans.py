"""Windows over long texts, and answers as spans of tokens: the same for training, evaluation and inference.

Positions are those of tokens; spans are half open, (begin, end). NumPy only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """Tokens ``begin`` .. ``end`` - 1 of a text."""

    begin: int
    end: int


def windows(length: int, room: int, shared: int) -> list[Window]:
    """Windows of at most ``room`` tokens over a text of ``length``; neighbours share ``shared`` tokens.

    The last one ends with the text. They never share more than half, which keeps their number small. A text without
    tokens has one empty window.
    """
    step = room - min(shared, room // 2)
    begins = range(0, max(length - room, 0) + step, step)
    return [Window(begin, min(begin + room, length)) for begin in begins if begin == 0 or begin - step + room < length]


def most_context(over: Sequence[Window]) -> np.ndarray:
    """For each token, int [length]: the window in which it has the most context; the first of equals.

    The context in a window is the smaller of the numbers of tokens before and after, plus a hundredth of the
    window's length (_check_is_max_context of run_squad.py).
    """
    chosen = np.zeros(max(window.end for window in over), np.int64)
    best = np.full(len(chosen), -np.inf)
    for number, (begin, end) in enumerate(over):
        tokens = np.arange(begin, end)
        context = np.minimum(tokens - begin, end - 1 - tokens) + 0.01 * (end - begin)
        better = context > best[begin:end]
        chosen[begin:end][better] = number
        best[begin:end][better] = context[better]
    return chosen


@dataclass(frozen=True)
class WordRow:
    """[CLS] pieces [SEP]. words: by number, those whose tag is read here; positions: where, at their first pieces."""

    input_ids: list[int]
    words: list[int]
    positions: list[int]


def word_rows(pieces: Sequence[Sequence[int]], cls_id: int, sep_id: int, max_length: int) -> list[WordRow]:
    """The rows, of ``max_length`` tokens at most, of words given as their pieces (at least one each).

    More pieces than a row holds are split into windows that share a quarter; a word's tag is read in the window where
    its first piece has the most context. Raises ValueError if a row has no room.
    """
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


@dataclass(frozen=True)
class QuestionRow:
    """[CLS] question [SEP] window of the context [SEP]; its token t is at position t - window.begin + first."""

    input_ids: list[int]
    token_type_ids: list[int]
    window: Window
    first: int


def question_rows(
    question: Sequence[int], context: Sequence[int], cls_id: int, sep_id: int, max_length: int, shared: int
) -> list[QuestionRow]:
    """The rows, of ``max_length`` tokens at most, that ask a question about a context; both as ids.

    A question that would take more than half of a row is truncated. Raises ValueError if a row has no room.
    """
    if max_length < 8:
        raise ValueError(f"max_length = {max_length} is too small; the least is 8")
    head = [cls_id, *question[: (max_length - 3) // 2], sep_id]
    rows = []
    for window in windows(len(context), max_length - len(head) - 1, shared):
        part = [*context[window.begin : window.end], sep_id]
        rows.append(QuestionRow(head + part, [0] * len(head) + [1] * len(part), window, len(head)))
    return rows


@dataclass(frozen=True)
class Span:
    """An answer: tokens ``begin`` .. ``end`` - 1 of the context. score: start logit + end logit."""

    begin: int
    end: int
    score: float


def best_spans(
    rows: Sequence[QuestionRow], starts: Iterable[np.ndarray], ends: Iterable[np.ndarray], n_best: int, longest: int
) -> list[Span]:
    """The ``n_best`` spans of ``longest`` tokens at most with the highest scores over all rows of one question.

    starts, ends: the logits of each row, float [at least the row's length]. An answer starts in the window in which
    its first token has the most context, so that none is counted twice. Ties: the earlier, then the shorter.
    """
    chosen = most_context([row.window for row in rows])
    found: list[Span] = []
    for number, (row, start, end) in enumerate(zip(rows, starts, ends, strict=True)):
        begin, size = row.window.begin, row.window.end - row.window.begin
        if not size:
            continue
        first = np.asarray(start[row.first : row.first + size], np.float64)
        first = np.where(chosen[begin : begin + size] == number, first, -np.inf)
        last = np.asarray(end[row.first : row.first + size], np.float64)
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


def null_score(starts: Iterable[np.ndarray], ends: Iterable[np.ndarray]) -> float:
    """The score of "no answer": start logit + end logit at [CLS], the lowest over all rows of a question."""
    return float(min(start[0] + end[0] for start, end in zip(starts, ends, strict=True)))
