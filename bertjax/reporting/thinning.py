"""Shortens long series for drawing without changing the picture."""

import numpy as np

# Columns of a drawing, each with the lowest and highest of its values: finer than a chart on a screen.
COLUMNS = 800
# A series with more points than this also gets a mean over _WINDOWS windows.
MANY = 120
_WINDOWS = 100


def thinned(steps: np.ndarray, values: np.ndarray, last: float) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of the points that a drawing from step 0 to ``last`` needs, with a NaN for each gap between
    them. ``steps`` ascend."""
    kept = finite = np.flatnonzero(np.isfinite(values))
    gaps = finite[1:][np.diff(finite) > 1] - 1
    if len(finite) > 2 * COLUMNS:
        column = np.minimum(steps[finite] / last * COLUMNS, COLUMNS - 1).astype(np.int64)
        order = np.lexsort((values[finite], column))
        change = np.flatnonzero(np.diff(column[order]))  # between the highest of a column and the lowest of the next
        kept = finite[[0, -1, order[0], order[-1], *order[change], *order[change + 1]]]
    kept = np.unique(np.concatenate([kept, gaps]))
    return steps[kept], values[kept]


def windowed_means(steps: np.ndarray, values: np.ndarray, last: float) -> tuple[np.ndarray, np.ndarray]:
    """(mean step, mean value) of the finite points in each of _WINDOWS equal windows that has any."""
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    window = np.minimum(steps / last * _WINDOWS, _WINDOWS - 1).astype(np.int64)
    counts = np.bincount(window, minlength=_WINDOWS)
    used = counts > 0
    mean = lambda x: np.bincount(window, weights=x, minlength=_WINDOWS)[used] / counts[used]
    return mean(steps), mean(values)
