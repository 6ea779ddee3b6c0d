"""Texts and pairs of texts: one label, several labels, or a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import expit, softmax

from bertjax.finetune import objectives
from bertjax.finetune.batching import Rows
from bertjax.finetune.family import MOST_ERRORS, Family, Labelled, Outcome
from bertjax.finetune.fitting import Room, fitted_rows, room_of, truncated_notes
from bertjax.finetune.settings import FinetuneConfig
from bertjax.keys import ConfigError
from bertjax.model.task import TaskConfig
from bertjax.tasks.examples import TextExample
from bertjax.tasks.labels import label_ids, label_map, unused
from bertjax.tasks.scores import SCORES, per_class
from bertjax.text.tokenizer import Tokenizer
from bertjax.train.losses import Objective

_OBJECTIVES: dict[str, Callable[[Any], Objective]] = {
    "classification": objectives.classification,
    "multi_label": objectives.multi_label,
    "regression": objectives.regression,
}
_LISTED = "; a label that training has not counts as an error where config.data.labels lists it with all others"
# Logits -> predictions as the scores take them.
_PREDICTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "classification": lambda logits: logits.argmax(axis=1),
    "multi_label": lambda logits: (logits > 0).astype(np.int32),
    "regression": lambda logits: logits[:, 0],
}


def text_family(run: FinetuneConfig, data: Labelled) -> Family:
    """Raises DataError for missing and unknown labels, ConfigError for class weights that do not fit."""
    names = labels_of(run, data.train)
    cautions = unused_labels(data.train, names)
    task = TaskConfig(run.task, names, run.model.max_length, run.model.classifier_dropout)
    room = room_of(run, data)
    own, held_out = label_ids(data.train, names), label_ids(data.eval, names, _LISTED)
    train, truncated = text_rows(data.train, data.tokenizer, room, labels=own)
    evaluation, truncated_there = text_rows(data.eval, data.tokenizer, room, labels=held_out)
    counts = np.bincount(own, minlength=len(names)) if own.dtype == np.int32 else own.sum(axis=0)
    weights = class_weights(run, names, counts)

    def outcome(outputs: list[np.ndarray]) -> Outcome:
        logits = np.stack(outputs)
        predictions = _PREDICTIONS[run.task](logits)
        scores = SCORES[run.task](predictions, held_out, names)
        details = lambda: (
            per_class(run.task, predictions, held_out, names)
            | {"errors": _errors(run.task, data.eval, logits, predictions, held_out, names)}
        )
        return Outcome(scores, details)

    return Family(
        task,
        _OBJECTIVES[run.task](weights),
        () if run.task == "regression" else ("accuracy",),
        train,
        evaluation,
        outcome,
        notes=truncated_notes(truncated, len(train), truncated_there, len(evaluation), room),
        # A squared error is as large as the square of the scale; where all labels are equal there is none.
        loss_unit=float(np.var(own, dtype=np.float64)) if run.task == "regression" and np.ptp(own) else 1.0,
        cautions=cautions,
    )


def labels_of(run: FinetuneConfig, train: Sequence[Any]) -> tuple[str, ...]:
    """The label map: the config's, or that of the training examples. Raises DataError."""
    if run.task == "regression" or run.data.labels is None:
        return label_map(train)
    return run.data.labels


def unused_labels(train: Sequence[Any], names: Sequence[str]) -> list[str]:
    """One line on labels that no training example has, if there are any. Raises DataError where all have the same."""
    missing = unused(train, names)
    listed = ", ".join(map(repr, missing))
    return [f"no training example has the label {listed}, of which nothing is learned"] if missing else []


def class_weights(run: FinetuneConfig, names: Sequence[str], counts: np.ndarray) -> Any:
    """float32 [C] or None, by ``config.training.class_weights``; "balanced" is N / (C * count), as scikit-learn's.

    Raises ConfigError.
    """
    given = run.training.class_weights
    if given is None:
        return None
    if given == "balanced":
        return jnp.asarray(counts.sum() / (len(names) * np.maximum(counts, 1)), jnp.float32)
    try:
        values = [float(part) for part in given.split(",")]
    except ValueError:
        values = []
    if len(values) != len(names) or not all(np.isfinite(values)) or min(values) < 0 or sum(values) == 0:
        raise ConfigError(
            f"config.training.class_weights = {given!r} must be 'balanced' or {len(names)} numbers, for the labels "
            f"{', '.join(names)}"
        )
    return jnp.asarray(values, jnp.float32)


def text_rows(
    examples: Sequence[TextExample], tokenizer: Tokenizer, room: Room, **labels: np.ndarray
) -> tuple[Rows, int]:
    """(rows, how many were truncated). Raises DataError."""
    texts = [example.text if example.second is None else (example.text, example.second) for example in examples]
    return fitted_rows(texts, [example.where for example in examples], tokenizer, room, **labels)


def _errors(
    kind: str,
    examples: Sequence[TextExample],
    logits: np.ndarray,
    predictions: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """The examples that are most surely wrong: text, label, predicted, probability; of numbers (no probability) the
    furthest off."""
    if kind == "regression":
        badness = np.abs(predictions - labels)
        said = lambda i: {"label": float(labels[i]), "predicted": float(predictions[i])}
    elif kind == "multi_label":
        probability = expit(np.abs(logits.astype(np.float64)))
        wrong = predictions != labels
        badness = np.where(wrong, probability, 0.0).max(axis=1)
        listed = lambda row: [name for name, there in zip(names, row, strict=True) if there]
        said = lambda i: {
            "label": listed(labels[i]),
            "predicted": listed(predictions[i]),
            "probability": float(badness[i]),
        }
    else:
        probability = softmax(logits.astype(np.float64), axis=-1)
        badness = np.where(predictions != labels, probability.max(axis=1), 0.0)
        said = lambda i: {
            "label": names[int(labels[i])],
            "predicted": names[int(predictions[i])],
            "probability": float(badness[i]),
        }
    worst = [int(i) for i in np.argsort(-badness, kind="stable")[:MOST_ERRORS] if badness[i] > 0]
    return [shown_text(examples[i]) | said(i) for i in worst]


def shown_text(example: TextExample) -> dict[str, Any]:
    """The text of an example as an entry of the summary's errors."""
    return {"text": example.text} | ({} if example.second is None else {"second": example.second})
