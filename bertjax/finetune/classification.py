"""Texts and pairs of texts: one label, several labels, or a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import expit, softmax

from bertjax.errors import ConfigError, DataError
from bertjax.finetune import objectives
from bertjax.finetune.batching import Rows
from bertjax.finetune.fitting import Room, fitted_rows, room_of, truncated_notes
from bertjax.finetune.settings import FinetuneConfig
from bertjax.finetune.task_setup import MOST_ERRORS, Decided, Labelled, Outcome, TaskSetup
from bertjax.model.task import TaskConfig
from bertjax.objectives.losses import Objective
from bertjax.tasks.examples import TextExample
from bertjax.tasks.labels import label_ids, label_map, positive_label, unused
from bertjax.tasks.scores import SCORES, per_class
from bertjax.tasks.undefined_scores import always_undefined, never_predicted, undefined_scores
from bertjax.text.tokenizer import Tokenizer

_OBJECTIVES: dict[str, Callable[..., Objective]] = {
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


def text_family(run: FinetuneConfig, data: Labelled) -> TaskSetup:
    """Raises DataError for missing and unknown labels, ConfigError for class weights that do not fit."""
    names, kind = labels_of(run, data.train), run.task
    positive = positive_label(names, run.data.positive_label) if kind == "classification" else None
    task = TaskConfig(kind, names, run.model.max_length, run.model.classifier_dropout, positive_label=positive)
    room = room_of(run, data)
    own, held_out = label_ids(data.train, names), label_ids(data.eval, names, _LISTED)
    train, truncated = text_rows(data.train, data.tokenizer, room, labels=own)
    evaluation, truncated_there = text_rows(data.eval, data.tokenizer, room, labels=held_out)
    counts = np.bincount(own, minlength=len(names)) if own.dtype == np.int32 else own.sum(axis=0)
    weights, decided = _weights(run, data, names, counts), {}
    if positive is not None and positive != names[1]:
        decided["data.positive_label"] = Decided(positive, f"--config.data.positive_label={names[1]}")
    if "positive_weights" in weights:
        decided["balanced"] = Decided("by the weight of what has a label")
    own_scores = {} if positive is None else {"positive": names.index(positive)}

    def outcome(outputs: list[np.ndarray]) -> Outcome:
        logits = np.stack(outputs)
        predictions = _PREDICTIONS[kind](logits)
        scores = SCORES[kind](predictions, held_out, names, **own_scores)
        details = lambda: (
            per_class(kind, predictions, held_out, names)
            | {"errors": _errors(kind, data.eval, logits, predictions, held_out, names)}
        )
        return Outcome(
            scores,
            details,
            undefined=undefined_scores(kind, predictions, held_out, names, **own_scores),
            remarks=never_predicted(kind, predictions, held_out, names),
        )

    none = always_undefined(kind, held_out, names, **own_scores)
    notes = truncated_notes(truncated, len(train), truncated_there, len(evaluation), room)
    if positive is not None:
        notes.append(f"f1, precision and recall are of the label {positive!r} (config.data.positive_label)")
    return TaskSetup(
        task,
        _OBJECTIVES[kind](**weights),
        () if kind == "regression" else ("accuracy",),
        train,
        evaluation,
        outcome,
        notes=notes,
        # A squared error is as large as the square of the scale; where all labels are equal there is none.
        loss_unit=float(np.var(own, dtype=np.float64)) if kind == "regression" and np.ptp(own) else 1.0,
        cautions=[*unused_labels(data.train, names), *_one_value(kind, own, names, none), *_no_weight(weights, names)],
        decided=decided,
        never_defined=none,
    )


def _one_value(kind: str, train: np.ndarray, names: Sequence[str], undefined: Mapping[str, str]) -> list[str]:
    """Lines on labels that are all the same."""
    lines = [f"the evaluation data leaves {name} undefined: {why}" for name, why in undefined.items()]
    if kind == "regression" and np.ptp(train) == 0:
        lines.append(f"all training labels are {train[0]:g}: nothing but this number is learned")
    if kind == "multi_label":
        every = [repr(name) for name, there in zip(names, np.atleast_1d(train.all(axis=0)), strict=True) if there]
        if every:
            lines.append(f"every training example has the label {', '.join(every)}: it tells nothing of a text")
    return lines


def _no_weight(weights: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    given = weights.get("class_weights")
    without = [] if given is None else [repr(name) for name, w in zip(names, np.asarray(given), strict=True) if not w]
    if not without:
        return []
    return [f"config.training.class_weights: the weight of {', '.join(without)} is 0: nothing is learned of it"]


def _weights(run: FinetuneConfig, data: Labelled, names: Sequence[str], counts: np.ndarray) -> dict[str, Any]:
    """The arguments of the objective: "balanced" is a positive weight where a text may have several labels."""
    if run.task == "multi_label" and run.training.class_weights == "balanced":
        return {"class_weights": None, "positive_weights": _positive_weights(data.train, names, counts)}
    return {"class_weights": class_weights(run, names, counts)}


def _positive_weights(train: Sequence[Any], names: Sequence[str], counts: np.ndarray) -> Any:
    """float32 [C]: of each label, examples without over examples with it. Raises DataError where one is 0."""
    without = len(train) - counts
    for which, amounts in (("no", counts), ("every", without)):
        one_sided = [name for name, amount in zip(names, amounts, strict=True) if not amount]
        if one_sided:
            raise DataError(
                f"{train[-1].where}: up to here {which} example has the label {one_sided[0]!r}, which no weight can "
                f"balance; leave it out of the data{' and of config.data.labels' * (which == 'no')}, or leave out "
                "config.training.class_weights, or give numbers there"
            )
    return jnp.asarray(without / counts, jnp.float32)


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
        occurs = counts > 0  # the others, of which nothing is learned, weigh as the average in the loss of eval
        return jnp.asarray(np.where(occurs, counts.sum() / (occurs.sum() * np.maximum(counts, 1)), 1.0), jnp.float32)
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
