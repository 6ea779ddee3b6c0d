"""Scores that are undefined for some predictions and labels, and why; labels that are never predicted."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertjax.cli.showing import listed

# Relative difference below which numbers are equal: what float32 and other padding of the rows may change.
_ROUNDING = 5e-7


def are_equal(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max(initial=0.0))


def why_uncorrelated(predictions: np.ndarray, labels: np.ndarray) -> str | None:
    """Why the correlation with the labels is undefined; None if it is not."""
    if len(labels) < 2:
        return "there is one example"
    if np.ptp(labels) == 0:
        return f"all labels are {labels[0]:g}"
    return f"all predictions are {predictions[0]:.4g}" if are_equal(predictions) else None


def _of_classes(
    predictions: np.ndarray, labels: np.ndarray, names: Sequence[str], positive: int | None
) -> dict[str, str]:
    found = {}
    for what, ids in (("predictions", predictions), ("labels", labels)):
        if len(np.unique(ids)) == 1:
            found["mcc"] = f"all {what} are {names[int(ids[0])]!r}"
    if positive is not None:
        name, is_predicted, is_there = names[positive], positive in predictions, positive in labels
        if not is_predicted:
            found["precision"] = f"{name!r} is never predicted"
        if not is_there:
            found["recall"] = f"no example has the label {name!r}"
        if not is_predicted and not is_there:
            found["f1"] = f"{name!r} neither occurs nor is predicted"
    return found


def undefined_scores(
    kind: str, predictions: Any, labels: Any, names: Sequence[str] = (), positive: int | None = None
) -> dict[str, str]:
    """Score -> reason for scores that are 0 / 0. Arguments are those of ``scores.SCORES``."""
    if kind in ("tagging", "answering"):
        return {}
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if kind == "classification":
        return _of_classes(predictions, labels, names, positive)
    if kind == "multi_label":
        is_empty = not predictions.any() and not labels.any()
        return {"f1_micro": "no label occurs, and none is predicted"} if is_empty else {}
    why = why_uncorrelated(predictions, labels)
    return {} if why is None else dict.fromkeys(("pearson", "spearman"), why)


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
