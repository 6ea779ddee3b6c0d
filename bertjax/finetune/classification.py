"""Texts and pairs of texts: one label, several labels, or a number."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.special import expit, softmax

from bertjax.batch import Objective
from bertjax.errors import ConfigError, DataError
from bertjax.finetune import objectives
from bertjax.finetune.batching import Rows
from bertjax.finetune.settings import FinetuneConfig
from bertjax.finetune.task_setup import MOST_ERRORS, Decided, Labelled, Outcome, TaskSetup, compared
from bertjax.model.task import TaskConfig
from bertjax.tasks.examples import TextExample
from bertjax.tasks.labels import label_ids, label_map, positive_label, unused_labels
from bertjax.tasks.scores import always_undefined

_LISTED = "; a label that training has not counts as an error where config.data.labels lists it with all others"


class _Kind(NamedTuple):
    """objective: of what ``_weights`` returns. predicted: logits -> predictions as the scores take them. wrongness: of
    logits, predictions and labels [N], 0 for what is right: a probability, or of numbers the distance. named: a label
    or prediction, by the names, as the summary has it."""

    objective: Callable[..., Objective]
    predicted: Callable[[np.ndarray], np.ndarray]
    wrongness: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    named: Callable[[Any, Sequence[str]], Any]


_KINDS = {
    "classification": _Kind(
        objectives.classes,
        lambda logits: logits.argmax(axis=1),
        lambda logits, ours, labels: np.where(ours != labels, softmax(logits, axis=-1).max(axis=1), 0.0),
        lambda label, names: names[int(label)],
    ),
    "multi_label": _Kind(
        objectives.multi_label,
        lambda logits: (logits > 0).astype(np.int32),
        lambda logits, ours, labels: np.where(ours != labels, expit(np.abs(logits)), 0.0).max(axis=1),
        lambda label, names: [name for name, there in zip(names, label, strict=True) if there],
    ),
    "regression": _Kind(
        objectives.regression,
        lambda logits: logits[:, 0],
        lambda logits, ours, labels: np.abs(ours - labels),
        lambda label, names: float(label),
    ),
}


def text_setup(run: FinetuneConfig, data: Labelled) -> TaskSetup:
    """Raises DataError for missing and unknown labels, ConfigError for class weights that do not fit."""
    names, kind, own_kind = labels_of(run, data.train), run.task, _KINDS[run.task]
    positive = positive_label(names, run.data.positive_label) if kind == "classification" else None
    task = TaskConfig(kind, names, run.model.max_length, run.model.classifier_dropout, positive_label=positive)
    own, held_out = label_ids(data.train, names), label_ids(data.eval, names, _LISTED)
    train, truncated = text_rows(run, data, data.train, labels=own)
    evaluation, truncated_there = text_rows(run, data, data.eval, labels=held_out)
    counts = np.bincount(own, minlength=len(names)) if own.dtype == np.int32 else own.sum(axis=0)
    weights, decided = _weights(run, data, names, counts), {}
    if positive is not None and positive != names[1]:
        decided["data.positive_label"] = Decided(positive, f"--config.data.positive_label={names[1]}")
    if "positive_weights" in weights:
        decided["balanced"] = Decided("by the weight of what has a label")
    own_scores = {} if positive is None else {"positive": names.index(positive)}

    def outcome(outputs: list[np.ndarray]) -> Outcome:
        logits = np.stack(outputs)
        predictions = own_kind.predicted(logits)
        errors = lambda: _errors(kind, data.eval, logits, predictions, held_out, names)
        return compared(kind, predictions, held_out, names, errors, **own_scores)

    none = always_undefined(kind, held_out, names, **own_scores)
    notes = data.truncation_notes(run, truncated, len(train), truncated_there, len(evaluation))
    if positive is not None:
        notes.append(f"f1, precision and recall are of the label {positive!r} (config.data.positive_label)")
    return TaskSetup(
        task,
        own_kind.objective(**weights),
        () if kind == "regression" else ("accuracy",),
        train,
        evaluation,
        outcome,
        notes=notes,
        # A squared error is as large as the square of the scale; where all labels are equal there is none.
        loss_unit=float(np.var(own, dtype=np.float64)) if kind == "regression" and np.ptp(own) else 1.0,
        cautions=[*unused_labels(data.train, names), *_cautions(kind, own, names, none, weights.get("class_weights"))],
        decided=decided,
        never_defined=none,
    )


def _cautions(
    kind: str, train: np.ndarray, names: Sequence[str], undefined: Mapping[str, str], weights: Any
) -> list[str]:
    """Lines on labels that are all the same, and on those without a weight."""
    quoted = lambda kept: ", ".join(repr(name) for name, there in zip(names, np.atleast_1d(kept), strict=True) if there)
    lines = [f"the evaluation data leaves {name} undefined: {why}" for name, why in undefined.items()]
    if kind == "regression" and np.ptp(train) == 0:
        lines.append(f"all training labels are {train[0]:g}: nothing but this number is learned")
    if kind == "multi_label" and (every := quoted(train.all(axis=0))):
        lines.append(f"every training example has the label {every}: it tells nothing of a text")
    if weights is not None and (without := quoted(np.asarray(weights) == 0)):
        lines.append(f"config.training.class_weights: the weight of {without} is 0: nothing is learned of it")
    return lines


def _weights(run: FinetuneConfig, data: Labelled, names: Sequence[str], counts: np.ndarray) -> dict[str, Any]:
    """The arguments of the objective: "balanced" is a positive weight where a text may have several labels."""
    if run.task == "regression":
        return {}
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
    return label_map(train) if run.task == "regression" or run.data.labels is None else run.data.labels


def class_weights(run: FinetuneConfig, names: Sequence[str], counts: np.ndarray) -> Any:
    """float32 [C] or None, by ``config.training.class_weights``; "balanced" is N / (C * count), as scikit-learn's.
    Raises ConfigError."""
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
    run: FinetuneConfig, data: Labelled, examples: Sequence[TextExample], **labels: np.ndarray
) -> tuple[Rows, int]:
    """(rows, how many were truncated). Raises DataError."""
    texts = [example.text if example.second is None else (example.text, example.second) for example in examples]
    return data.rows(run, texts, [example.where for example in examples], **labels)


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
    wrongness, named = _KINDS[kind].wrongness(logits.astype(np.float64), predictions, labels), _KINDS[kind].named
    found = []
    for i in map(int, np.argsort(-wrongness, kind="stable")[:MOST_ERRORS]):
        if wrongness[i] > 0:
            said = {"text": examples[i].text, "second": examples[i].second}
            said |= {"label": named(labels[i], names), "predicted": named(predictions[i], names)}
            said |= {} if kind == "regression" else {"probability": float(wrongness[i])}
            found.append({name: value for name, value in said.items() if value is not None})
    return found
