"""Answers to questions, as spans of a text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bertjax.inference.batches import check_task, task_logits
from bertjax.inference.encoding import Encoded, check_text
from bertjax.model.task import TaskConfig, TaskModel
from bertjax.tasks.windows import AnswerCandidate, RankedAnswers, all_answers, question_windows
from bertjax.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Answer(AnswerCandidate):
    """The best answer. n_best: this answer, then the others, best first; they include "no answer" for a model that can
    give it."""

    n_best: list[AnswerCandidate]


def answer(
    model: TaskModel,
    tokenizer: Tokenizer,
    question: str | Sequence[str],
    context: str | Sequence[str],
    *,
    n_best: int = 3,
    batch_size: int = 32,
) -> Any:
    """An ``Answer`` to a question about a context; a list of them for a list of questions, with as many contexts or one
    for all.

    Long contexts are read in windows. Without ``model.task.null_threshold`` there always is an answer. Raises
    ValueError and TypeError that name the argument.
    """
    if isinstance(question, str):
        if not isinstance(context, str):
            raise ValueError("context must be a string if question is one")
        return answer(model, tokenizer, [question], [context], n_best=n_best, batch_size=batch_size)[0]
    check_task(model, tokenizer, "answering")
    if model.config.type_vocab_size < 2:
        raise ValueError("model has 1 token type; a question and its context need two")
    if n_best < 1:
        raise ValueError(f"n_best = {n_best} must be positive")
    questions = list(question)
    contexts = [context] * len(questions) if isinstance(context, str) else list(context)
    if len(contexts) != len(questions):
        raise ValueError(f"question has {len(questions)} texts, context {len(contexts)}")
    for number, (one, other) in enumerate(zip(questions, contexts, strict=True)):
        check_text(one, f"question[{number}]")
        check_text(other, f"context[{number}]")
    task = model.task
    settings = {"max_length": task.max_length, "stride": task.stride, "max_question": task.max_question}
    asked = question_windows(tokenizer, questions, contexts, **settings)
    rows = [Encoded(row.input_ids, row.token_type_ids) for one in asked for row in one.rows]
    logits, with_none = task_logits(model, tokenizer, rows, batch_size), task.null_threshold is not None
    return [_answer(one, task, n_best) for one in all_answers(asked, logits, task.max_answer, with_none)]


def _answer(found: RankedAnswers, task: TaskConfig, n_best: int) -> Answer:
    best = found.best(task.null_threshold)
    with_none = [found.no_answer] if task.null_threshold is not None or not found.answers else []
    others = sorted((c for c in (*found.answers, *with_none) if c is not best), key=lambda c: -c.score)
    return Answer(**vars(best), n_best=[best, *others][:n_best])
