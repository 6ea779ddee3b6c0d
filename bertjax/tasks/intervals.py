"""Bootstrap confidence intervals: how far a score would move had other examples of the same kind been drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def bootstrap(
    function: Callable[..., Any], *arrays: Any, seed: int, samples: int = 1000, level: float = 0.95
) -> tuple[Any, Any]:
    """(low, high) of ``function(*arrays)``: percentiles over ``samples`` draws of N of its N examples, with repetition.

    ``arrays``: arrays [N, ...] or lists of N, drawn together. What the function returns, a number or an array of
    them, is what low and high are. The percentile method of Efron & Tibshirani 1993, section 13.3. A pure function of
    its arguments. Raises ValueError for arrays of different lengths or none.
    """
    count = len(arrays[0]) if arrays else 0
    if not count or any(len(array) != count for array in arrays):
        raise ValueError(f"arrays must be of one length, at least 1, not {[len(array) for array in arrays]}")
    random = np.random.Generator(np.random.Philox(seed))
    values = [function(*(_taken(a, drawn) for a in arrays)) for drawn in _draws(random, count, samples)]
    low, high = np.quantile(np.asarray(values, np.float64), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return (float(low), float(high)) if np.ndim(low) == 0 else (low, high)


def _draws(random: np.random.Generator, count: int, samples: int):
    for _ in range(samples):
        yield random.integers(count, size=count)


def _taken(array: Sequence[Any] | np.ndarray, indices: np.ndarray) -> Any:
    return array[indices] if isinstance(array, np.ndarray) else [array[i] for i in indices]
