"""Scores of predictions by kind of task, for all examples and for bootstrap draws of them.

All are fractions of 1 (correlations from -1 to 1); an undefined score, such as the correlation with a constant, is 0,
and ``undefined_scores`` says why. Each kind compares predictions and labels once and returns ``(function, arrays)``:
arrays [N, ...] by example, and the scores of any draw of their rows, cheap enough for a thousand draws. Tests hold
every score against scikit-learn, scipy or seqeval.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from bertjax.cli.showing import listed
from bertjax.tasks import squad_metrics
from bertjax.tasks.entities import are_entities, entity_pairs, types_of
from bertjax.tasks.examples import QuestionExample

Scores = dict[str, float]
Compared = tuple[Callable[..., dict[str, Any]], tuple[np.ndarray, ...]]
# With more labels the confusion matrix is not kept: it grows with their square.
MOST_OF_MATRIX = 100
# Relative difference below which numbers are equal: what float32 and other padding of the rows may change.
_ROUNDING = 5e-7


def _classification(
    predictions: Any, labels: Any, label_names: Sequence[str], *, positive: int | None = None
) -> Compared:
    """Of ids [N]: ``accuracy``, ``f1_macro`` (over the classes that occur), ``mcc``; of two classes ``f1``,
    ``precision`` and ``recall`` of the one with the id ``positive``, None: the second."""
    count, own = len(label_names), 1 if positive is None else positive

    def function(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
        right, predicted, true = (counts.astype(np.float64) for counts in _counts(ours, theirs, count))
        total, f1 = len(ours), _f1(right, predicted + true)
        # Gorodkin 2004: the correlation of any number of classes.
        spread = np.sqrt((total**2 - predicted @ predicted) * (total**2 - true @ true))
        found = {
            "accuracy": right.sum() / total,
            "f1_macro": f1[predicted + true > 0].mean(),
            "mcc": (right.sum() * total - predicted @ true) / spread if spread else 0.0,
        }
        return found if count != 2 else found | _rates(right[own], predicted[own], true[own])

    return function, _checked(predictions, labels)


def _multi_label(predictions: Any, labels: Any, label_names: Sequence[str]) -> Compared:
    """Of zeros and ones [N, C]: ``f1_micro``, ``f1_macro`` over all labels, ``exact_match`` of all labels of a row."""

    def function(right: np.ndarray, either: np.ndarray, exact: np.ndarray) -> dict[str, Any]:
        right, either = right.sum(axis=0), either.sum(axis=0)
        micro, macro = _f1(right.sum(), either.sum()), _f1(right, either).mean()
        return {"f1_micro": micro, "f1_macro": macro, "exact_match": exact.mean()}

    ours, theirs = (array > 0 for array in _checked(predictions, labels))
    return function, (ours & theirs, ours.astype(np.int64) + theirs, (ours == theirs).all(axis=1))


def _correlations(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Of numbers [N], such as cosines against scores of any scale: ``spearman`` and ``pearson`` correlation."""
    from scipy.stats import rankdata

    return {"spearman": _pearson(rankdata(ours), rankdata(theirs)), "pearson": _pearson(ours, theirs)}


def _pearson(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Much faster than scipy's, which also computes a p-value."""
    if np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return 0.0
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    return float(ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs)))


def _regression(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Of numbers [N]: ``pearson`` and ``spearman`` correlation, ``mse``."""
    return {"pearson": 0.0} | _correlations(ours, theirs) | {"mse": ((ours - theirs) ** 2).mean()}


def _of_numbers(function: Callable[..., dict[str, Any]], predictions: Any, labels: Any, _: Sequence[str]) -> Compared:
    return function, tuple(array.astype(np.float64) for array in _checked(predictions, labels))


def _tagging(predictions: Any, labels: Any, label_names: Sequence[str]) -> Compared:
    """Of N lists of tag ids, one a word: ``accuracy`` of words. First, if the tags mark entities, their ``f1``,
    ``precision`` and ``recall`` as in seqeval (and conlleval): a span and its type must both be right."""
    _flat(predictions, labels)
    words = np.array([len(ids) for ids in labels])
    right = np.array([np.equal(ours, theirs).sum() for ours, theirs in zip(predictions, labels, strict=True)])
    accuracy = lambda right, words: {"accuracy": right.sum() / words.sum()}
    if not are_entities(label_names):
        return accuracy, (right, words)
    entities = entity_pairs(predictions, labels, label_names)
    function = lambda counts, *of_words: _rates(*counts.sum(axis=0)) | accuracy(*of_words)
    counts = [(len(ours & theirs), len(ours), len(theirs)) for ours, theirs in entities]
    return function, (np.array(counts, np.int64), right, words)


def _rates(right: Any, predicted: Any, true: Any) -> dict[str, Any]:
    """From the numbers of right, predicted and true ones; 0 if there are none."""
    return {
        "f1": 2 * right / (predicted + true) if predicted + true else 0.0,
        "precision": right / predicted if predicted else 0.0,
        "recall": right / true if true else 0.0,
    }


def _answering(predictions: Mapping[str, str], labels: Sequence[QuestionExample], _: Sequence[str]) -> Compared:
    """Of texts by question id: ``f1``, ``exact_match`` and, of SQuAD 2.0, both by whether a question has an answer; a
    draw without questions of one sort lacks the scores of that sort."""
    exact, f1 = squad_metrics.question_scores(predictions, labels)
    function = partial(squad_metrics.summary, parted=squad_metrics.has_unanswerable(labels))
    return function, (exact, f1, squad_metrics.has_answer(labels))


COMPARED: dict[str, Callable[..., Compared]] = {
    "classification": _classification,
    "multi_label": _multi_label,
    "regression": partial(_of_numbers, _regression),
    "embedding": partial(_of_numbers, _correlations),
    "tagging": _tagging,
    "answering": _answering,
}


def _scores(kind: str, predictions: Any, labels: Any, label_names: Sequence[str] = (), **settings: Any) -> Scores:
    function, arrays = COMPARED[kind](predictions, labels, label_names, **settings)
    scores = function(*arrays)
    if kind in ("regression", "embedding"):  # cosines are correlated in their own float type
        scores |= _scipys_correlations(*(arrays if kind == "regression" else _checked(predictions, labels)))
    return {name: float(value) for name, value in scores.items()}


# The first score of each is its main one: what the best checkpoint is chosen by. Called with predictions, labels and
# the names of the labels; see the functions in COMPARED.
SCORES: dict[str, Callable[..., Scores]] = {kind: partial(_scores, kind) for kind in COMPARED}


def score_intervals(
    function: Callable[..., Mapping[str, float]],
    arrays: Sequence[np.ndarray],
    *,
    seed: int,
    samples: int = 1000,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Score -> (low, high) of ``function(*arrays)``: percentiles over ``samples`` draws of N examples with replacement.
    ``arrays`` [N, ...] are drawn together; draws that lack a score, or for which it is NaN, do not count. The
    percentile method of Efron & Tibshirani 1993, section 13.3. Raises ValueError for arrays of different lengths or
    none."""
    count = len(arrays[0]) if arrays else 0
    if not count or any(len(array) != count for array in arrays):
        raise ValueError(f"arrays must be of one length, at least 1, not {[len(array) for array in arrays]}")
    random = np.random.Generator(np.random.Philox(seed))
    names, values = list(function(*arrays)), []
    for _ in range(samples):
        drawn = random.integers(count, size=count)
        scores = function(*(array[drawn] for array in arrays))
        values.append([scores.get(name, np.nan) for name in names])
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of nothing but NaNs
        low, high = np.nanquantile(np.asarray(values, np.float64), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(names)}


def per_class(kind: str, predictions: Any, labels: Any, label_names: Sequence[str]) -> dict[str, Any]:
    """For the report: ``labels``, ``confusion`` [true][predicted] and ``per_class``, figures by name of class.

    The figures are precision, recall, f1 and support. Those of entities are by type, while the confusion is of tags;
    multi-label tasks have no confusion ([]). More than ``MOST_OF_MATRIX`` labels have ``confusions`` instead of the
    matrix: label, predicted, count and share of the label's examples, the commonest first, at most one a label. Kinds
    without classes give {}.
    """
    if kind not in ("classification", "multi_label", "tagging"):
        return {}
    ours, theirs = (_flat if kind == "tagging" else _checked)(predictions, labels)
    names = label_names
    if kind == "tagging" and are_entities(label_names):
        names, counts = types_of(label_names), _counts_by_type(predictions, labels, label_names)
    else:
        counts = _counts(ours, theirs, len(label_names))
    figures = {}
    for right, predicted, true, name in zip(*counts, names, strict=True):
        rates = _rates(int(right), int(predicted), int(true))
        figures[name] = {key: rates[key] for key in ("precision", "recall", "f1")} | {"support": int(true)}
    found = {"labels": list(label_names), "confusion": [], "per_class": figures}
    return found if kind == "multi_label" else found | _confused(ours, theirs, label_names)


def _confused(predictions: np.ndarray, labels: np.ndarray, label_names: Sequence[str]) -> dict[str, Any]:
    classes = len(label_names)
    cells = labels.astype(np.int64) * classes + predictions
    if classes <= MOST_OF_MATRIX:
        return {"confusion": np.bincount(cells, minlength=classes**2).reshape(classes, classes).tolist()}
    cells, counts = np.unique(cells[labels != predictions], return_counts=True)
    support = np.bincount(labels, minlength=classes)
    found = []
    for i in np.argsort(-counts, kind="stable")[:classes]:
        (true, predicted), count = divmod(int(cells[i]), classes), int(counts[i])
        names = {"label": label_names[true], "predicted": label_names[predicted]}
        found.append(names | {"count": count, "share": count / int(support[true])})
    return {"confusions": found}


def _counts_by_type(predictions: Any, labels: Any, label_names: Sequence[str]) -> list[list[int]]:
    """[right, predicted, true] entities of each of ``types_of(label_names)``."""
    counters = Counter(), Counter(), Counter()
    for ours, theirs in entity_pairs(predictions, labels, label_names):
        for counter, entities in zip(counters, (ours & theirs, ours, theirs), strict=True):
            counter.update(kind for kind, *_ in entities)
    return [[counter[kind] for kind in types_of(label_names)] for counter in counters]


def _counts(predictions: np.ndarray, labels: np.ndarray, classes: int) -> list[np.ndarray]:
    """[right, predicted, true] int64 [C] of ids [N], or of zeros and ones [N, C]."""
    if labels.ndim == 2:
        ours, theirs = predictions > 0, labels > 0
        return [array.sum(axis=0) for array in (ours & theirs, ours, theirs)]
    return [np.bincount(ids, minlength=classes) for ids in (predictions[predictions == labels], predictions, labels)]


def _f1(right: Any, either: Any) -> Any:
    """F1 from the number of right ones, and of predicted plus true ones; 0 if there are none."""
    return 2 * right / np.maximum(either, 1)


def _scipys_correlations(predictions: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    from scipy import stats

    if _why_uncorrelated(predictions, labels) is not None:
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


def score_title(name: str, positive: str | None) -> str:
    """The name of a score; F1, precision and recall with the ``positive`` label, if the task has one."""
    return f"{name} of {positive!r}" if positive is not None and name in ("f1", "precision", "recall") else name


def format_scores(
    scores: Mapping[str, float],
    undefined: Mapping[str, str],
    positive: str | None = None,
    suffixes: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """For example: accuracy 0.9000, f1 of 'yes' 0.8000, mcc undefined (all predictions are 'no'). undefined: score ->
    reason. suffixes: score -> what follows its value."""
    title = lambda name: score_title(name.replace("_", " "), positive)
    values = defined_scores(scores, undefined).items()
    parts = [f"{title(name)} {value:.4f}{suffixes.get(name, '')}" for name, value in values]
    return ", ".join([*parts, *[f"{title(name)} undefined ({reason})" for name, reason in undefined.items()]])


def defined_scores(scores: Mapping[str, Any], undefined: Mapping[str, str]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if name not in undefined}


def are_equal(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max(initial=0.0))


def _why_uncorrelated(predictions: np.ndarray, labels: np.ndarray) -> str | None:
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
    """Score -> reason for scores that are 0 / 0. Arguments are those of ``SCORES``."""
    if kind in ("tagging", "answering"):
        return {}
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if kind == "classification":
        return _of_classes(predictions, labels, names, positive)
    if kind == "multi_label":
        is_empty = not predictions.any() and not labels.any()
        return {"f1_micro": "no label occurs, and none is predicted"} if is_empty else {}
    why = _why_uncorrelated(predictions, labels)
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
    _, *counts = _counts(np.asarray(predictions), np.asarray(labels), len(names))
    missed = [repr(name) for name, ours, theirs in zip(names, *counts, strict=True) if theirs and not ours]
    line = f"never predicted, so that their F1 is 0: {listed(missed, 10)} ({len(missed):,} of {len(names):,} labels)"
    return [line] if missed else []
