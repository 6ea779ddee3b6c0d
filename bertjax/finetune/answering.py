"""Answers as spans of a context: windows with a stride, no answer at [CLS]."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertjax.data.files import DataError
from bertjax.finetune import objectives
from bertjax.finetune.batching import Rows, joined
from bertjax.finetune.family import MOST_ERRORS, Family, Labelled, Outcome
from bertjax.finetune.settings import FinetuneConfig
from bertjax.model.task import TaskConfig
from bertjax.tasks.asked import Asked, Found, ask, find
from bertjax.tasks.examples import QuestionExample
from bertjax.tasks.scores import SCORES
from bertjax.tasks.spans import QuestionRow
from bertjax.tasks.squad_rules import best_thresholds, has_unanswerable, word_f1
from bertjax.text.tokenizer import Tokenizer


def answering_family(run: FinetuneConfig, data: Labelled) -> Family:
    """Raises DataError where the answers of a question are not known."""
    model = run.model
    task = TaskConfig(
        "answering",
        max_length=model.max_length,
        classifier_dropout=model.classifier_dropout,
        stride=model.stride,
        max_answer=model.max_answer,
    )
    train, _ = _rows(data.train, data.tokenizer, task)
    evaluation, asked = _rows(data.eval, data.tokenizer, task)
    with_none = has_unanswerable(data.train) or has_unanswerable(data.eval)

    def outcome(outputs: list[np.ndarray]) -> Outcome:
        logits = iter(outputs)
        found = [find(one, list(itertools.islice(logits, len(one.rows))), task.max_answer, with_none) for one in asked]
        threshold = _null_threshold(found, data.eval) if with_none else None
        texts = {q.id: one.chosen(threshold).text for q, one in zip(data.eval, found, strict=True)}
        details = lambda: {"labels": [], "errors": _errors(data.eval, found, threshold)}
        return Outcome(SCORES["answering"](texts, data.eval), details, {"null_threshold": threshold})

    windows = len(train) - len(data.train)
    notes = [f"contexts come in windows of {task.max_length} tokens: {windows:,} further ones of the training data"]
    return Family(
        task,
        objectives.answering(None),
        ("accuracy",),
        train,
        evaluation,
        outcome,
        notes if windows else [],
    )


def _rows(examples: Sequence[QuestionExample], tokenizer: Tokenizer, task: TaskConfig) -> tuple[Rows, list[Asked]]:
    asked = ask(
        tokenizer,
        [example.question for example in examples],
        [example.context for example in examples],
        max_length=task.max_length,
        stride=task.stride,
        max_question=task.max_question,
    )
    labels = [_label(example, one, row) for example, one in zip(examples, asked, strict=True) for row in one.rows]
    rows = joined(
        [(row.input_ids, row.token_type_ids) for one in asked for row in one.rows], labels=np.array(labels, np.int32)
    )
    return rows, asked


def _label(example: QuestionExample, asked: Asked, row: QuestionRow) -> tuple[int, int]:
    """Places in the row of the first and the last token of the first answer; of [CLS] where the row has none of it,
    or not all."""
    if example.answers is None:
        raise DataError(f"{example.where}: question {example.id} has no answers to learn from")
    if not example.answers:
        return 0, 0
    begin, end = example.answers[0].start, example.answers[0].start + len(example.answers[0].text)
    tokens = [number for number, (b, e) in enumerate(asked.spans) if e > begin and b < end]
    if not tokens or tokens[0] < row.window.begin or tokens[-1] >= row.window.end:
        return 0, 0
    first = row.first - row.window.begin
    return tokens[0] + first, tokens[-1] + first


def _null_threshold(found: Sequence[Found], examples: Sequence[QuestionExample]) -> float:
    """The threshold with the best F1 on these questions, as the official evaluation finds it."""
    lead = [one.none.score - one.answers[0].score if one.answers else np.inf for one in found]
    most = max((x for x in lead if x < np.inf), default=0.0)
    no_answer = {q.id: float(min(x, most + 1.0)) for q, x in zip(examples, lead, strict=True)}
    texts = {q.id: one.chosen(None).text for q, one in zip(examples, found, strict=True)}
    return best_thresholds(texts, no_answer, examples)["best_f1_threshold"]


def _errors(
    examples: Sequence[QuestionExample], found: Sequence[Found], threshold: float | None
) -> list[dict[str, Any]]:
    """The surest answers that have no word of a right one."""
    wrong = []
    for question, one in zip(examples, found, strict=True):
        best, golds = one.chosen(threshold), [answer.text for answer in question.answers or ()]
        is_right = any(word_f1(best.text, gold) > 0 for gold in golds) if golds else not best.text
        if not is_right:
            said = {"label": golds[0] if golds else "", "predicted": best.text, "probability": best.probability}
            wrong.append({"text": question.question, "second": question.context} | said)
    return sorted(wrong, key=lambda error: -error["probability"])[:MOST_ERRORS]
