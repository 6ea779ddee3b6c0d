"""Long series made short for drawing, so that the picture stays the same."""

from __future__ import annotations

import numpy as np

# Columns that are told apart in a drawing. A screen may have more pixels, a point or two of difference is not seen.
COLUMNS = 400
# A series with more points than this is also drawn as a mean over _WINDOWS parts.
MANY = 120
_WINDOWS = 100


def thinned(steps: np.ndarray, values: np.ndarray, last: float) -> np.ndarray:
    """Indices, ascending, of the points that a drawing from step 0 to ``last`` needs: the first, the lowest, the
    highest and the last in each of its columns. NaNs never are among them."""
    finite = np.flatnonzero(np.isfinite(values))
    if len(finite) <= 4 * COLUMNS:
        return finite
    column = np.minimum(steps[finite] / last * COLUMNS, COLUMNS - 1).astype(np.int64)
    kept = [_edges(column), _edges(column, np.lexsort((values[finite], column)))]
    return finite[np.unique(np.concatenate(kept))]


def windowed_means(steps: np.ndarray, values: np.ndarray, last: float) -> tuple[np.ndarray, np.ndarray]:
    """(mean step, mean value) of the finite points in each of _WINDOWS equal parts that has any."""
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    window = np.minimum(steps / last * _WINDOWS, _WINDOWS - 1).astype(np.int64)
    counts = np.bincount(window, minlength=_WINDOWS)
    used = counts > 0
    mean = lambda x: np.bincount(window, weights=x, minlength=_WINDOWS)[used] / counts[used]
    return mean(steps), mean(values)


def _edges(groups: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """Indices of the first and last of each group; ``order`` sorts within the groups."""
    order = np.arange(len(groups)) if order is None else order
    change = np.flatnonzero(np.diff(groups[order]))
    return order[np.concatenate([[0], change, change + 1, [len(groups) - 1]])]
