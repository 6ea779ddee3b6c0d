"""Scores that are undefined for some predictions and labels, and why; labels that are never predicted."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bertjax.cli.showing import listed

# Relative difference below which numbers are equal: what float32 and other padding of the rows may change.
_ROUNDING = 5e-7


def are_equal(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max(initial=0.0))


def _classification(
    predictions: np.ndarray, labels: np.ndarray, names: Sequence[str], positive: int | None
) -> dict[str, str]:
    found = {}
    for what, ids in (("predictions", predictions), ("labels", labels)):
        if len(np.unique(ids)) == 1:
            found["mcc"] = f"all {what} are {names[int(ids[0])]!r}"
    if positive is not None:
        name, is_predicted, is_there = names[positive], bool((predictions == positive).any()), positive in labels
        if not is_predicted:
            found["precision"] = f"{name!r} is never predicted"
        if not is_there:
            found["recall"] = f"no example has the label {name!r}"
        if not is_predicted and not is_there:
            found["f1"] = f"{name!r} neither occurs nor is predicted"
    return found


def _multi_label(predictions: np.ndarray, labels: np.ndarray, names: Sequence[str], positive: None) -> dict[str, str]:
    return {} if predictions.any() or labels.any() else {"f1_micro": "no label occurs, and none is predicted"}


def _correlation(predictions: np.ndarray, labels: np.ndarray, names: Sequence[str], positive: None) -> dict[str, str]:
    if len(labels) < 2:
        why = "there is one example"
    elif np.ptp(labels) == 0:
        why = f"all labels are {labels[0]:g}"
    elif are_equal(predictions):
        why = f"all predictions are {predictions[0]:.4g}"
    else:
        return {}
    return {"pearson": why, "spearman": why}


_OF_KIND: dict[str, Callable[..., dict[str, str]]] = {
    "classification": _classification,
    "multi_label": _multi_label,
    "regression": _correlation,
    "embedding": _correlation,
}


def undefined_scores(
    kind: str, predictions: Any, labels: Any, names: Sequence[str] = (), positive: int | None = None
) -> dict[str, str]:
    """Score -> reason for scores that are 0 / 0. Arguments are those of ``scores.SCORES``."""
    if kind not in _OF_KIND:
        return {}
    return _OF_KIND[kind](np.asarray(predictions), np.asarray(labels), names, positive)


def always_undefined(kind: str, labels: Any, names: Sequence[str] = (), positive: int | None = None) -> dict[str, str]:
    """Score -> reason, for scores that are undefined whatever the predictions are."""
    if kind == "multi_label":
        return {}
    every = np.arange(len(names) if kind == "classification" else len(labels))  # nothing is undefined due to these
    return undefined_scores(kind, every, labels, names, positive)


def never_predicted(kind: str, predictions: Any, labels: Any, names: Sequence[str]) -> list[str]:
    if kind not in ("classification", "multi_label"):
        return []
    counts = [
        values.sum(0) if kind == "multi_label" else np.bincount(values, minlength=len(names))
        for values in (np.asarray(predictions), np.asarray(labels))
    ]
    missed = [repr(name) for name, ours, theirs in zip(names, *counts, strict=True) if theirs and not ours]
    line = f"never predicted, so that their F1 is 0: {listed(missed, 10)} ({len(missed):,} of {len(names):,} labels)"
    return [line] if missed else []
