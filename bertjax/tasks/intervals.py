"""Bootstrap confidence intervals: how much a score depends on which examples were drawn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bertjax.tasks.scores import COMPARED

Interval = tuple[float, float]


def bootstrap(
    function: Callable[..., Any], *arrays: np.ndarray, seed: int, samples: int = 1000, level: float = 0.95
) -> tuple[Any, Any]:
    """(low, high) of ``function(*arrays)``: percentiles over ``samples`` draws of N examples with replacement.

    ``arrays`` [N, ...] are drawn together. low and high have the shape of what the function returns; draws for which it
    is NaN do not count. The percentile method of Efron & Tibshirani 1993, section 13.3. A pure function of its
    arguments. Raises ValueError for arrays of different lengths or none.
    """
    count = len(arrays[0]) if arrays else 0
    if not count or any(len(array) != count for array in arrays):
        raise ValueError(f"arrays must be of one length, at least 1, not {[len(array) for array in arrays]}")
    random = np.random.Generator(np.random.Philox(seed))
    draws = (random.integers(count, size=count) for _ in range(samples))
    values = [function(*(array[drawn] for array in arrays)) for drawn in draws]
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of nothing but NaNs
        low, high = np.nanquantile(np.asarray(values, np.float64), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return (float(low), float(high)) if np.ndim(low) == 0 else (low, high)


def score_intervals(
    kind: str,
    predictions: Any,
    labels: Any,
    label_names: Sequence[str] = (),
    *,
    seed: int,
    samples: int = 1000,
    level: float = 0.95,
    **settings: Any,
) -> dict[str, Interval]:
    """Score -> interval, with the arguments of ``scores.SCORES[kind]``. Draws examples: sentences of a tagging task,
    questions of an answering task."""
    function, arrays = COMPARED[kind](predictions, labels, label_names, **settings)
    names = list(function(*arrays))
    low, high = bootstrap(
        lambda *drawn: [function(*drawn).get(name, np.nan) for name in names],
        *arrays,
        seed=seed,
        samples=samples,
        level=level,
    )
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(names)}
