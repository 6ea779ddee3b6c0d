"""The figures of ``scores.py`` in a form that is cheap to take of a thousand draws of the same examples.

A kind's function compares predictions and labels once and returns ``(function, arrays)``: arrays [N, ...] by example,
and the scores of any draw of their rows. A test holds every one against ``scores.py``. Of SQuAD 2.0, a draw without
one of the two kinds of questions has no score of that kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bertjax.tasks import scores, squad_metrics

Drawn = tuple[Callable[..., dict[str, Any]], tuple[np.ndarray, ...]]


def _classification(predictions: Any, labels: Any, label_names: Sequence[str], *, positive: int | None = None) -> Drawn:
    count, own = len(label_names), 1 if positive is None else positive

    def function(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
        drawn = (ours[ours == theirs], theirs, ours)
        right, true, predicted = (np.bincount(ids, minlength=count).astype(np.float64) for ids in drawn)
        total = len(ours)
        f1 = _f1(right, true + predicted)
        # Gorodkin 2004: the correlation of more than two classes.
        spread = np.sqrt((total**2 - predicted @ predicted) * (total**2 - true @ true))
        found = {
            "accuracy": right.sum() / total,
            "f1_macro": f1[true + predicted > 0].mean(),
            "mcc": (right.sum() * total - true @ predicted) / spread if spread else 0.0,
        }
        if count != 2:
            return found
        share = lambda whole: right[own] / whole[own] if whole[own] else 0.0
        return found | {"f1": f1[own], "precision": share(predicted), "recall": share(true)}

    return function, (np.asarray(predictions), np.asarray(labels))


def _multi_label(predictions: Any, labels: Any, label_names: Sequence[str]) -> Drawn:
    predictions, labels = np.asarray(predictions) > 0, np.asarray(labels) > 0

    def function(right: np.ndarray, either: np.ndarray, whole: np.ndarray) -> dict[str, Any]:
        right, either = right.sum(0), either.sum(0)
        return {
            "f1_micro": _f1(right.sum(), either.sum()),
            "f1_macro": _f1(right, either).mean(),
            "exact_match": whole.mean(),
        }

    either = predictions.astype(np.int64) + labels
    return function, (predictions & labels, either, (predictions == labels).all(axis=1))


def _f1(right: Any, either: Any) -> np.ndarray:
    """F1 from the number of right ones, and of predicted plus true ones; 0 where there is none."""
    return 2 * right / np.maximum(either, 1)


def _regression(predictions: Any, labels: Any, label_names: Sequence[str]) -> Drawn:
    def function(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
        return _correlations(ours, theirs) | {"mse": ((ours - theirs) ** 2).mean()}

    return function, (np.asarray(predictions, np.float64), np.asarray(labels, np.float64))


def _similarity(predictions: Any, labels: Any, label_names: Sequence[str]) -> Drawn:
    return _correlations, (np.asarray(predictions, np.float64), np.asarray(labels, np.float64))


def _correlations(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    from scipy.stats import rankdata

    return {"spearman": _pearson(rankdata(ours), rankdata(theirs)), "pearson": _pearson(ours, theirs)}


def _pearson(ours: np.ndarray, theirs: np.ndarray) -> float:
    if np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return 0.0
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    return float(ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs)))


def _tagging(predictions: Any, labels: Any, label_names: Sequence[str]) -> Drawn:
    words = np.array([len(ids) for ids in labels])
    right = np.array([np.equal(ours, theirs).sum() for ours, theirs in zip(predictions, labels, strict=True)])

    def accuracy(right: np.ndarray, words: np.ndarray) -> dict[str, Any]:
        return {"accuracy": right.sum() / words.sum()}

    def function(right: np.ndarray, words: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
        return scores.entity_scores(counts) | accuracy(right, words)

    if not scores.are_entities(label_names):
        return accuracy, (right, words)
    return function, (right, words, scores.entity_counts(predictions, labels, label_names))


def _answering(predictions: Any, labels: Any, label_names: Sequence[str]) -> Drawn:
    exact, f1 = squad_metrics.question_scores(predictions, labels)
    function = partial(squad_metrics.summary, parted=squad_metrics.has_unanswerable(labels))
    return function, (exact, f1, squad_metrics.has_answer(labels))


DRAWN: dict[str, Callable[..., Drawn]] = {
    "classification": _classification,
    "multi_label": _multi_label,
    "regression": _regression,
    "embedding": _similarity,
    "tagging": _tagging,
    "answering": _answering,
}
