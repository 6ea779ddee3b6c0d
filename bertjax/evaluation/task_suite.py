"""``task``: the scores of a fine-tuned model on labelled data.

Predictions are those of ``bertjax.classify``, ``tag``, ``answer`` and ``similarity``; scores are fractions.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.cli.paths import given_path
from bertjax.cli.progress import ReportProgress
from bertjax.errors import ConfigError, DataError
from bertjax.evaluation.suite import Options, Read, Result, Score, column_names, measured, scored
from bertjax.inference.answer import Answer, answer
from bertjax.inference.classify import classify
from bertjax.inference.embed import similarity
from bertjax.inference.tag import tag
from bertjax.interop.task_models import load_task_model
from bertjax.model.task import TaskModel
from bertjax.tasks import squad_metrics
from bertjax.tasks.conll import read_tagged
from bertjax.tasks.entities import TagNames, why_no_entities
from bertjax.tasks.examples import QuestionExample, tagged_examples, text_examples
from bertjax.tasks.label_warnings import unknown_text_warnings
from bertjax.tasks.labels import label_ids, positive_label
from bertjax.tasks.scores import defined_scores, never_predicted, per_class, undefined_scores
from bertjax.tasks.squad import question_examples, read_questions
from bertjax.tasks.tables import Columns, read_texts
from bertjax.tasks.windows import N_BEST
from bertjax.text.tokenizer import Tokenizer

OPTIONS = ("limit", "columns", "batch_tokens", "seed")
FORMATS: dict[str, str] = {}
load = load_task_model
_EXAMPLES_AT_ONCE = 512  # between two updates of the progress


def read(data: Any, tokenizer: Tokenizer, model: TaskModel, options: Options) -> Read:
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
        if threshold and squad_metrics.has_unanswerable(examples):
            warnings.append(
                f"f1 and exact_match use the model's own threshold for no answer, {threshold:.4g} (SQuAD's is 0), "
                f"which was tuned on the questions that it was evaluated on"
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
    return examples, warnings + unknown_text_warnings(tokenizer, examples, "the data", refuse=False)


def score(
    model: TaskModel, tokenizer: Tokenizer, examples: list[Any], options: Options, show: ReportProgress
) -> Result:
    """All scores of ``tasks.scores`` for the kind of task; details: per class, and confusion."""
    kind, names = model.task.kind, model.task.labels
    if kind == "tagging":
        names = TagNames.of(names, examples)
    found: list[Any] = []
    size = max(1, options.tokens_at_once // model.task.max_length)
    for begin in range(0, len(examples), _EXAMPLES_AT_ONCE):
        found += _predict(model, tokenizer, examples[begin : begin + _EXAMPLES_AT_ONCE], size, names)
        show("predicting", min(begin + _EXAMPLES_AT_ONCE, len(examples)), len(examples))
    predictions, labels = _comparable(kind, found, examples, names)
    has_positive = kind == "classification" and len(names) == 2
    positive = positive_label(names, model.task.positive_label) if has_positive else None
    own = {} if positive is None else {"positive": names.index(positive)}
    none = undefined_scores(kind, predictions, labels, names, **own)
    scores = defined_scores(scored(kind, predictions, labels, names, options.seed, **own), none)
    if kind == "answering" and model.task.null_threshold is not None and squad_metrics.has_unanswerable(examples):
        scores |= _best_scores(found, examples, options.seed)
    facts: dict[str, Any] = {"task": kind} | ({} if positive is None else {"positive_label": positive})
    by_character = squad_metrics.counted_in_characters(one.context for one in examples) if kind == "answering" else 0
    if by_character:
        facts["answers_compared_by_characters"] = by_character
    return Result(
        scores,
        facts=facts,
        details=per_class(kind, predictions, labels, names),
        warnings=never_predicted(kind, predictions, labels, names),
        undefined=none,
    )


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


def _best_scores(found: Sequence[Answer], examples: Sequence[QuestionExample], seed: int) -> dict[str, Score]:
    texts, margins = {}, []
    for question, one in zip(examples, found, strict=True):
        best = next((c for c in one.n_best if c.start is not None), None)
        none = next(c.score for c in one.n_best if c.start is None)
        texts[question.id] = "" if best is None else best.text
        margins.append(np.inf if best is None else none - best.score)
    scores = [*squad_metrics.question_scores(texts, examples), squad_metrics.has_answer(examples)]
    return measured(squad_metrics.best_scores, [*scores, squad_metrics.null_margins(margins)], seed)


def _predict(
    model: TaskModel, tokenizer: Tokenizer, examples: Sequence[Any], size: int, names: Sequence[str]
) -> list[Any]:
    """What the scores compare of each example: an id, an id for each word, a flag for each label, a number; of a
    question the ``Answer``. size: rows of a batch."""
    kind, ids = model.task.kind, {name: number for number, name in enumerate(names)}
    if kind == "answering":
        questions, contexts = [example.question for example in examples], [example.context for example in examples]
        return answer(model, tokenizer, questions, contexts, n_best=N_BEST + 1, batch_size=size)
    if kind == "tagging":
        tagged = tag(model, tokenizer, [list(example.words) for example in examples], batch_size=size)
        return [np.array([ids[word.tag] for word in one.words], np.int32) for one in tagged]
    texts = [example.text if example.second is None else (example.text, example.second) for example in examples]
    if kind == "embedding":
        return list(similarity(model, tokenizer, texts, batch_size=size))
    found = classify(model, tokenizer, texts, batch_size=size)
    if kind == "classification":
        return [ids[one.label] for one in found]
    return [one.score if kind == "regression" else [name in one.labels for name in names] for one in found]


def _comparable(kind: str, found: list[Any], examples: list[Any], names: Sequence[str]) -> tuple[Any, Any]:
    """(predictions, labels) in the form that the scores take."""
    if kind == "answering":
        return {example.id: one.text for example, one in zip(examples, found, strict=True)}, examples
    if kind == "embedding":
        return np.array(found, np.float64), np.array([example.label for example in examples], np.float64)
    labels = label_ids(examples, names)
    if kind == "tagging":
        return found, labels
    return np.array(found, np.float64 if kind == "regression" else np.int32), labels
