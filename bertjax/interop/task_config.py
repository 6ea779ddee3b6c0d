"""The task of a model in its config.json: architecture, labels, and bertjax's own settings."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from bertjax.cli.showing import short
from bertjax.errors import ModelFileError
from bertjax.model.task import TaskConfig, head_name

# Class of transformers -> its kinds of tasks.
ARCHITECTURES = {
    "BertForSequenceClassification": ("classification", "multi_label", "regression"),
    "BertForTokenClassification": ("tagging",),
    "BertForQuestionAnswering": ("answering",),
    "BertModel": ("embedding",),
}
_PROBLEM_TYPES = {
    "classification": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
# Settings that transformers has no place for, under the key "bertjax": with their types and lowest values.
_OWN: dict[str, tuple[tuple[type, ...], float | None]] = {
    "max_length": ((int,), 8),
    "pooling": ((str,), None),
    "normalize": ((bool,), None),
    "stride": ((int,), 0),
    "max_question": ((int,), 1),
    "max_answer": ((int,), 1),
    "null_threshold": ((int, float, type(None)), None),
    "positive_label": ((str, type(None)), None),
}
_POOLINGS = ("mean", "cls")
_MOST_LABELS = 1 << 20


def architecture(values: Mapping[str, Any]) -> str | None:
    """The class of transformers that a parsed config.json names, or None."""
    named = values.get("architectures")
    return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None


def head_of(name: str | None) -> str | None:
    """The prefix of the tensors of an architecture's head, "classifier" or "qa_outputs", or None."""
    if name not in ARCHITECTURES or name == "BertModel":
        return None
    return head_name(ARCHITECTURES[name][0])


def to_task_values(task: TaskConfig) -> dict[str, Any]:
    """The keys of config.json for the task, as ``transformers`` and ``from_task_values`` read them."""
    name = next(name for name, kinds in ARCHITECTURES.items() if task.kind in kinds)
    values: dict[str, Any] = {"architectures": [name]}
    if task.labels:
        values["id2label"] = {str(number): label for number, label in enumerate(task.labels)}
        values["label2id"] = {label: number for number, label in enumerate(task.labels)}
    if task.kind in _PROBLEM_TYPES:
        values["problem_type"] = _PROBLEM_TYPES[task.kind]
    if name != "BertModel":
        values["classifier_dropout"] = task.classifier_dropout
    return values | {"bertjax": {name: getattr(task, name) for name in _OWN}}


def from_task_values(values: Mapping[str, Any], outputs: int | None, positions: int, origin: str) -> TaskConfig:
    """The task of a parsed config.json. Raises ModelFileError that starts with ``origin``. outputs: rows of the head's
    weight, None without a head; positions: of the model."""
    name = architecture(values)
    if name not in ARCHITECTURES:
        what = "names no architecture" if name is None else f"is of a {short(repr(name))}"
        raise ModelFileError(f"{origin} {what}, which is not a model for a task; there are {', '.join(ARCHITECTURES)}")
    labels: tuple[str, ...] = ()
    kind = ARCHITECTURES[name][0]
    if kind in ("classification", "tagging"):
        labels = _labels(values, outputs or 0, origin)
    if kind == "classification":
        kind = _kind(values.get("problem_type"), len(labels), origin)
    if kind == "regression":
        if len(labels) != 1:
            raise ModelFileError(f"{origin}: a regression has one output, this one has {len(labels)}")
        labels = ("score",)
    dropout = values.get("classifier_dropout")
    if dropout is not None and (type(dropout) not in (int, float) or not 0 <= dropout < 1):
        raise ModelFileError(f"{origin}: classifier_dropout = {short(repr(dropout))} must lie in 0 .. 1")
    own = _own(values.get("bertjax", {}), positions, origin)
    if own.get("positive_label") is not None and own["positive_label"] not in labels:
        raise ModelFileError(
            f"{origin}: bertjax.positive_label = {short(repr(own['positive_label']))} is not one of the labels"
        )
    return TaskConfig(kind, labels, classifier_dropout=dropout, **own)


def _labels(values: Mapping[str, Any], outputs: int, origin: str) -> tuple[str, ...]:
    named = values.get("id2label")
    if named is None:  # transformers leaves its default names away
        return tuple(f"LABEL_{number}" for number in range(min(outputs, _MOST_LABELS)))
    if not isinstance(named, dict) or not all(isinstance(label, str) for label in named.values()):
        raise ModelFileError(f"{origin}: id2label must be an object of numbers and names")
    if len(named) != outputs:
        raise ModelFileError(f"{origin}: id2label has {len(named)} labels, the classifier {outputs} outputs")
    missing = [number for number in range(outputs) if str(number) not in named]
    if missing:
        raise ModelFileError(f"{origin}: id2label has no label for output {missing[0]}")
    labels = tuple(named[str(number)] for number in range(outputs))
    label, count = Counter(labels).most_common(1)[0] if labels else ("", 0)
    if count > 1:
        raise ModelFileError(f"{origin}: id2label has the label {short(repr(label))} twice")
    return labels


def _kind(problem_type: Any, outputs: int, origin: str) -> str:
    """As transformers: without a problem_type one output is a regression."""
    if problem_type is None:
        return "regression" if outputs == 1 else "classification"
    kinds = {name: kind for kind, name in _PROBLEM_TYPES.items()}
    if not isinstance(problem_type, str) or problem_type not in kinds:
        raise ModelFileError(f"{origin}: problem_type = {short(repr(problem_type))}; there are {', '.join(kinds)}")
    return kinds[problem_type]


def _own(settings: Any, positions: int, origin: str) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise ModelFileError(f"{origin}: bertjax must be an object of settings")
    found: dict[str, Any] = {"max_length": positions}
    for name, value in settings.items():
        if name not in _OWN:
            raise ModelFileError(f"{origin}: bertjax has an unknown setting {short(repr(name))}")
        types, low = _OWN[name]
        is_wrong = type(value) not in types or (low is not None and not low <= value < 1 << 31)
        if is_wrong or (isinstance(value, float) and not math.isfinite(value)):
            raise ModelFileError(f"{origin}: bertjax.{name} = {short(repr(value))} is not valid")
        found[name] = value
    if found["max_length"] > positions:
        raise ModelFileError(
            f"{origin}: bertjax.max_length = {found['max_length']}, but the model has {positions} positions"
        )
    if found.get("pooling", "mean") not in _POOLINGS:
        raise ModelFileError(
            f"{origin}: bertjax.pooling = {short(repr(found['pooling']))}; there are {', '.join(_POOLINGS)}"
        )
    return found
