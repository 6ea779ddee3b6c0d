"""``task``: the scores of a fine-tuned model on labelled data.

Predictions are those of ``bertjax.classify``, ``tag``, ``answer`` and ``similarity``; scores are fractions.
"""

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.cli.paths import given_path
from bertjax.cli.progress import ReportProgress
from bertjax.errors import ConfigError, DataError
from bertjax.evaluation.suite import Examples, Options, Result, Score, Suite, column_names, measured, scored
from bertjax.inference.answer import Answer, answer
from bertjax.inference.classify import classify
from bertjax.inference.embed import similarity
from bertjax.inference.tag import tag
from bertjax.interop.task_models import load_task_model
from bertjax.model.task import TaskModel
from bertjax.tasks.conll import read_tagged
from bertjax.tasks.entities import TagNames, why_no_entities
from bertjax.tasks.examples import QuestionExample, TextExample, tagged_examples, text_examples
from bertjax.tasks.label_warnings import unknown_text_warnings
from bertjax.tasks.labels import label_ids, positive_label
from bertjax.tasks.scores import never_predicted, per_class, undefined_scores
from bertjax.tasks.squad import question_examples, read_questions
from bertjax.tasks.squad_metrics import (
    best_scores,
    counted_in_characters,
    has_answer,
    has_unanswerable,
    null_margins,
    question_scores,
)
from bertjax.tasks.tables import Columns, read_texts
from bertjax.tasks.windows import N_BEST
from bertjax.text.tokenizer import Tokenizer

_EXAMPLES_AT_ONCE = 512  # between two updates of the progress


def read_labelled(data: Any, tokenizer: Tokenizer, model: TaskModel, options: Options) -> Examples:
    """Examples for the model's kind of task, from a file, or from (inputs, labels) or a list of questions in memory.

    Raises DataError that names file and line, also for a label that the model does not have. Tags that it does not have
    count as errors.
    """
    if not isinstance(model, TaskModel):
        raise ConfigError(f"model must come from bertjax.load_task_model(path), not be a {type(model).__name__}")
    kind = model.task.kind
    examples: Any
    warnings: list[str] = []
    if isinstance(data, str | Path):
        examples = _read_file(given_path(data, "data", DataError), kind, options.columns, warnings.append)
    elif kind == "answering":
        examples = question_examples(data, warnings.append)
    elif not isinstance(data, tuple) or len(data) != 2:
        raise ConfigError("data must be a path, or a tuple of inputs and labels")
    else:
        examples = (
            tagged_examples(*data) if kind == "tagging" else text_examples(*data, kind=kind, warn=warnings.append)
        )
    examples = examples[: options.limit]
    if kind == "answering":
        if unknown := next((example for example in examples if example.answers is None), None):
            raise DataError(f"{unknown.where}: question {unknown.id} has no 'answers' to compare with")
        threshold = model.task.null_threshold
        if threshold and has_unanswerable(examples):
            warnings.append(
                f"f1 and exact_match are those of the model's own threshold for no answer, {threshold:.4g}, where "
                f"SQuAD's is 0: it was chosen by the questions that the model was evaluated on"
            )
    elif kind == "tagging":
        names = TagNames.of(model.task.labels, examples)
        label_ids(examples, names)  # raises for one that is missing
        odd = why_no_entities(model.task.labels, examples)
        warnings += [*([odd] if odd else []), *names.lines(examples)]
    elif kind != "embedding":
        label_ids(examples, model.task.labels)  # raises for one that is missing or unknown
    else:
        for example in examples:
            if example.second is None or example.label is None:
                raise DataError(f"{example.where}: cosines need two texts and a score")
    return Examples(examples, warnings + unknown_text_warnings(tokenizer, examples, "the data", refuse=False))


def score_task(
    model: TaskModel, tokenizer: Tokenizer, examples: list[Any], options: Options, show: ReportProgress
) -> Result:
    """All scores of ``tasks.scores`` for the kind of task; details: per class, and confusion."""
    kind, names = model.task.kind, model.task.labels
    if kind == "tagging":
        names = TagNames.of(names, examples)
    found: list[Any] = []
    size = max(1, options.tokens_at_once // model.task.max_length)
    for begin in range(0, len(examples), _EXAMPLES_AT_ONCE):
        found += _PREDICT[kind](model, tokenizer, examples[begin : begin + _EXAMPLES_AT_ONCE], size)
        show("predicting", min(begin + _EXAMPLES_AT_ONCE, len(examples)), len(examples))
    predictions, labels = _comparable(kind, found, examples, names)
    positive = _positive(model) if kind == "classification" else None
    own = {} if positive is None else {"positive": names.index(positive)}
    none = undefined_scores(kind, predictions, labels, names, **own)
    scores = {
        name: score
        for name, score in scored(kind, predictions, labels, names, options.seed, **own).items()
        if name not in none
    }
    if kind == "answering" and model.task.null_threshold is not None and has_unanswerable(examples):
        scores |= _best_scores(found, examples, options.seed)
    facts: dict[str, Any] = {"task": kind} | ({} if positive is None else {"positive_label": positive})
    by_character = counted_in_characters(one.context for one in examples) if kind == "answering" else 0
    if by_character:
        facts["answers_compared_by_characters"] = by_character
    return Result(
        scores,
        facts=facts,
        details=per_class(kind, predictions, labels, names),
        warnings=never_predicted(kind, predictions, labels, names),
        undefined=none,
    )


def _positive(model: TaskModel) -> str | None:
    """The label whose F1, precision and recall are scored, of two."""
    labels = model.task.labels
    return positive_label(labels, model.task.positive_label) if len(labels) == 2 else None


def _read_file(path: Path, kind: str, columns: str | None, warn: Callable[[str], None]) -> list[Any]:
    """columns: text,label or text,second,label; for tagging tag or word,tag."""
    if kind == "tagging":
        names = column_names(columns, (1, 2), "the column of the tags, or those of words and tags: 1,3")
        return read_tagged(path, names[-1] if names else None, names[0] if len(names) == 2 else None, warn)
    if kind == "answering":
        if columns is not None:
            raise ConfigError(f"columns = {columns!r}: a file of questions has no columns")
        return read_questions(path, warn)
    names = column_names(columns, (2, 3), "two or three names or numbers: text,label or text,text,label")
    given = Columns(names[0], names[1] if len(names) == 3 else None, names[-1]) if names else Columns()
    return read_texts(path, given, kind, warn)


def _texts(examples: Sequence[TextExample]) -> list[Any]:
    return [example.text if example.second is None else (example.text, example.second) for example in examples]


def _answers(model: TaskModel, tokenizer: Tokenizer, examples: Sequence[QuestionExample], size: int) -> list[Answer]:
    questions, contexts = [example.question for example in examples], [example.context for example in examples]
    return answer(model, tokenizer, questions, contexts, n_best=N_BEST + 1, batch_size=size)


def _best_scores(found: Sequence[Answer], examples: Sequence[QuestionExample], seed: int) -> dict[str, Score]:
    best, none = [], []
    for one in found:
        best.append(next((c for c in one.n_best if c.start is not None), None))
        none.append(next(c.score for c in one.n_best if c.start is None))
    texts = {q.id: "" if one is None else one.text for q, one in zip(examples, best, strict=True)}
    lead = null_margins([np.inf if one is None else null - one.score for one, null in zip(best, none, strict=True)])
    return measured(best_scores, [*question_scores(texts, examples), has_answer(examples), lead], seed)


def _classified(field: str) -> Callable[[TaskModel, Tokenizer, Sequence[Any], int], list[Any]]:
    take = operator.attrgetter(field)
    return lambda model, tokenizer, examples, size: [
        take(found) for found in classify(model, tokenizer, _texts(examples), batch_size=size)
    ]


# ``(model, tokenizer, examples, batch size)`` -> names of labels, numbers or answers.
_PREDICT: dict[str, Callable[[TaskModel, Tokenizer, Sequence[Any], int], list[Any]]] = {
    "classification": _classified("label"),
    "multi_label": _classified("labels"),
    "regression": _classified("score"),
    "embedding": lambda model, tokenizer, examples, size: list(
        similarity(model, tokenizer, _texts(examples), batch_size=size)
    ),
    "tagging": lambda model, tokenizer, examples, size: [
        [word.tag for word in found.words]
        for found in tag(model, tokenizer, [list(example.words) for example in examples], batch_size=size)
    ],
    "answering": _answers,
}


def _comparable(kind: str, found: list[Any], examples: list[Any], names: Sequence[str]) -> tuple[Any, Any]:
    """(predictions, labels) in the form that the scores take."""
    if kind == "answering":
        return {example.id: one.text for example, one in zip(examples, found, strict=True)}, examples
    if kind == "embedding":
        return np.array(found, np.float64), np.array([example.label for example in examples], np.float64)
    labels = label_ids(examples, names)
    ids = {name: number for number, name in enumerate(names)}
    if kind == "tagging":
        return [np.array([ids[name] for name in tags], np.int32) for tags in found], labels
    if kind == "multi_label":
        return np.array([[name in own for name in names] for own in found], np.int32), labels.astype(np.int32)
    if kind == "regression":
        return np.array(found, np.float64), labels
    return np.array([ids[name] for name in found], np.int32), labels


SUITE = Suite(
    load=load_task_model,
    read=read_labelled,
    score=score_task,
    options=("limit", "columns", "batch_tokens", "seed"),
)
