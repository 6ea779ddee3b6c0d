"""Scores of predictions, a function a kind of task; by scikit-learn, scipy, seqeval and SQuAD's own rules.

All are fractions of 1 (correlations from -1 to 1); what is undefined, such as the correlation with a constant, is 0:
``undefined.undefined`` says what that is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from bertjax.tasks import squad_metrics
from bertjax.tasks.entities import are_entities, entity_counts, entity_pairs, types_of
from bertjax.tasks.examples import QuestionExample
from bertjax.tasks.undefined_scores import are_equal

Scores = dict[str, float]
# Labels up to which the whole confusion matrix is kept: its square grows out of any file.
MOST_OF_MATRIX = 100


def classification(predictions: Any, labels: Any, label_names: Sequence[str], *, positive: int | None = None) -> Scores:
    """Of ids [N]: ``accuracy``, ``f1_macro`` (over the classes that occur), ``mcc``; of two classes ``f1``,
    ``precision`` and ``recall`` of the one with the id ``positive``, None: the second."""
    from sklearn import metrics

    predictions, labels = _checked(predictions, labels)
    scores = {
        "accuracy": metrics.accuracy_score(labels, predictions),
        "f1_macro": metrics.f1_score(labels, predictions, average="macro", zero_division=cast(Any, 0)),
        "mcc": _matthews(predictions, labels, len(label_names)),
    }
    if len(label_names) == 2:
        own = 1 if positive is None else positive
        truth, found = ((ids == own).astype(np.int32) for ids in (labels, predictions))
        of = lambda score: score(truth, found, average="binary", pos_label=1, zero_division=cast(Any, 0))
        scores |= {
            "f1": of(metrics.f1_score),
            "precision": of(metrics.precision_score),
            "recall": of(metrics.recall_score),
        }
    return _plain(scores)


def _matthews(predictions: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Gorodkin's correlation (2004), 0 where it is undefined. scikit-learn's makes the whole confusion matrix."""
    predicted, true = (np.bincount(ids, minlength=classes).astype(np.float64) for ids in (predictions, labels))
    right, total = float((predictions == labels).sum()), len(labels)
    spread = np.sqrt((total**2 - predicted @ predicted) * (total**2 - true @ true))
    return float((right * total - predicted @ true) / spread) if spread else 0.0


def multi_label(predictions: Any, labels: Any, label_names: Sequence[str]) -> Scores:
    """Of zeros and ones [N, C]: ``f1_micro``, ``f1_macro`` over all labels, ``exact_match`` of whole rows."""
    from sklearn import metrics

    predictions, labels = _checked(predictions, labels)
    each = _by_label(*_counts_by_label(predictions, labels), label_names)
    return _plain(
        {
            # Column by column, since scikit-learn takes a single one for two classes.
            "f1_micro": metrics.f1_score(labels.ravel(), predictions.ravel(), zero_division=cast(Any, 0)),
            "f1_macro": np.mean([figures["f1"] for figures in each.values()]),
            "exact_match": (predictions == labels).all(axis=1).mean(),
        }
    )


def regression(predictions: Any, labels: Any, label_names: Sequence[str] = ()) -> Scores:
    """Of numbers [N]: ``pearson`` and ``spearman`` correlation, ``mse``."""
    predictions, labels = _checked(predictions, labels)
    predictions, labels = predictions.astype(np.float64), labels.astype(np.float64)
    correlations = _correlations(predictions, labels)
    return _plain({**correlations, "mse": ((predictions - labels) ** 2).mean()})


def similarity(predictions: Any, labels: Any, label_names: Sequence[str] = ()) -> Scores:
    """Of cosines [N] against scores of any scale [N]: ``spearman`` and ``pearson`` correlation."""
    correlations = _correlations(*_checked(predictions, labels))
    return _plain({name: correlations[name] for name in ("spearman", "pearson")})


def tagging(predictions: Any, labels: Any, label_names: Sequence[str]) -> Scores:
    """Of N lists of tag ids, one a word: ``accuracy`` of words; of entities first ``f1``, ``precision``, ``recall``.

    Entities as in seqeval (and conlleval): a span and its type must both be right. Only where the tags mark
    entities (``entities.scheme_of``).
    """
    from sklearn import metrics

    flat_predictions, flat_labels = _flat(predictions, labels)
    scores = {"accuracy": metrics.accuracy_score(flat_labels, flat_predictions)}
    if are_entities(label_names):
        scores = entity_scores(entity_counts(predictions, labels, label_names)) | scores
    return _plain(scores)


def entity_scores(counts: np.ndarray) -> Scores:
    """``f1``, ``precision`` and ``recall`` from ``entity_counts``; cheap enough to be drawn a thousand times."""
    right, found, there = (int(n) for n in counts.sum(axis=0))
    return {
        "f1": 2 * right / (found + there) if found + there else 0.0,
        "precision": right / found if found else 0.0,
        "recall": right / there if there else 0.0,
    }


def answering(
    predictions: Mapping[str, str], labels: Sequence[QuestionExample], label_names: Sequence[str] = ()
) -> Scores:
    """Of texts by question id: ``f1``, ``exact_match`` and their splits, see ``squad_metrics.evaluate``."""
    return squad_metrics.evaluate(predictions, labels)


# The first score of each is its main one: what the best checkpoint is chosen by.
SCORES: dict[str, Callable[..., Scores]] = {
    "classification": classification,
    "multi_label": multi_label,
    "regression": regression,
    "embedding": similarity,
    "tagging": tagging,
    "answering": answering,
}


def per_class(kind: str, predictions: Any, labels: Any, label_names: Sequence[str]) -> dict[str, Any]:
    """For the report: ``labels``, ``confusion`` [true][predicted] and ``per_class``, figures by name of class.

    The figures are precision, recall, f1 and support. Of entities they are by type, while the confusion is of tags;
    several labels at once have no confusion ([]). More than ``MOST_OF_MATRIX`` labels have ``confusions`` instead of
    the matrix: label, predicted, count and share of the label's examples, the commonest first, at most one a label.
    Kinds without classes give {}.
    """
    if kind == "multi_label":
        predictions, labels = _checked(predictions, labels)
        figures = _by_label(*_counts_by_label(predictions, labels), label_names)
        return {"labels": list(label_names), "confusion": [], "per_class": figures}
    if kind not in ("classification", "tagging"):
        return {}
    flat_predictions, flat_labels = (_flat if kind == "tagging" else _checked)(predictions, labels)
    if kind == "tagging" and are_entities(label_names):
        figures = _by_entity(predictions, labels, label_names)
    else:
        drawn = (flat_predictions[flat_predictions == flat_labels], flat_predictions, flat_labels)
        right, predicted, true = (np.bincount(ids, minlength=len(label_names)) for ids in drawn)
        figures = _by_label(right, predicted, true, label_names)
    found = {"labels": list(label_names), "confusion": [], "per_class": figures}
    return found | _confused(flat_predictions, flat_labels, label_names)


def _confused(predictions: np.ndarray, labels: np.ndarray, label_names: Sequence[str]) -> dict[str, Any]:
    classes = len(label_names)
    cells, counts = np.unique(labels.astype(np.int64) * classes + predictions, return_counts=True)
    if classes <= MOST_OF_MATRIX:
        matrix = np.zeros(classes * classes, np.int64)
        matrix[cells] = counts
        return {"confusion": matrix.reshape(classes, classes).tolist()}
    support = np.bincount(labels, minlength=classes)
    wrong = cells // classes != cells % classes
    cells, counts = cells[wrong], counts[wrong]
    commonest = np.argsort(-counts, kind="stable")[:classes]
    pairs = ((*divmod(int(cells[i]), classes), int(counts[i])) for i in commonest)
    return {
        "confusions": [
            {
                "label": label_names[true],
                "predicted": label_names[predicted],
                "count": count,
                "share": count / int(support[true]),
            }
            for true, predicted, count in pairs
        ]
    }


def _counts_by_label(predictions: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(right, predicted, true) [C] of zeros and ones [N, C]."""
    ours, theirs = predictions.astype(bool), labels.astype(bool)
    return (ours & theirs).sum(axis=0), ours.sum(axis=0), theirs.sum(axis=0)


def _by_label(
    right: np.ndarray, predicted: np.ndarray, true: np.ndarray, label_names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Figures by name from counts [C]; 0 where they are undefined."""
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(true, 1)
    f1 = 2 * right / np.maximum(predicted + true, 1)
    return {name: _figures(precision[i], recall[i], f1[i], true[i]) for i, name in enumerate(label_names)}


def _by_entity(predictions: Any, labels: Any, label_names: Sequence[str]) -> dict[str, dict[str, float]]:
    right, found, there = Counter(), Counter(), Counter()
    for ours, theirs in entity_pairs(predictions, labels, label_names):
        for counter, entities in ((right, ours & theirs), (found, ours), (there, theirs)):
            counter.update(entity[0] for entity in entities)
    figures = {}
    for name in types_of(label_names):
        own = entity_scores(np.array([[right[name], found[name], there[name]]]))
        figures[name] = _figures(own["precision"], own["recall"], own["f1"], there[name])
    return figures


def _figures(precision: Any, recall: Any, f1: Any, support: Any) -> dict[str, float]:
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}


def _correlations(predictions: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    from scipy import stats

    if len(labels) < 2 or are_equal(predictions) or np.ptp(labels) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    return {"pearson": stats.pearsonr(predictions, labels)[0], "spearman": stats.spearmanr(predictions, labels)[0]}


def _checked(predictions: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or not len(labels):
        raise ValueError(f"predictions {predictions.shape} and labels {labels.shape} must be of one shape, not empty")
    return predictions, labels


def _flat(predictions: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    for i, (ours, theirs) in enumerate(zip(predictions, labels, strict=True)):
        if len(ours) != len(theirs):
            raise ValueError(f"sentence {i} has {len(theirs)} labels and {len(ours)} predictions")
    return _checked(np.concatenate([*map(np.asarray, predictions)]), np.concatenate([*map(np.asarray, labels)]))


def _plain(scores: Mapping[str, Any]) -> Scores:
    return {name: float(value) for name, value in scores.items()}
