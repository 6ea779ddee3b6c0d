"""Which row lengths batches are padded to: few, as each is compiled to a program of its own. NumPy only."""

from collections.abc import Iterator

import numpy as np

# For texts that come call by call, so that every call uses the programs of the one before.
FIXED = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192)
# For texts that are all known: at most so many, multiples of this.
MOST_LENGTHS = 12
MULTIPLE = 2


def best_lengths(longest: np.ndarray, limit: int, worth: float) -> np.ndarray:
    """The row lengths that together pad least for batches whose longest rows are ``longest``; at most ``MOST_LENGTHS``.
    Ascending; multiples of ``MULTIPLE``, or ``limit``, which no row exceeds. worth: how much padding, in places of one
    row of each batch, another length has to save."""
    rounded = np.minimum(-(-longest // MULTIPLE) * MULTIPLE, limit)
    values, counts = np.unique(rounded, return_counts=True)
    batches = np.concatenate([[0], np.cumsum(counts)])
    # places[j]: the fewest for the batches of the first j values in so many lengths; begins[j - 1]: the value after
    # which the last of these lengths begins to be used.
    places = np.where(batches > 0, np.inf, 0.0)
    begins, costs = [], []
    for number in range(1, min(MOST_LENGTHS, len(values)) + 1):
        after = places[None, :] + (batches[1:, None] - batches[None, :]) * values[:, None]
        after = np.where(np.arange(len(values) + 1)[None, :] <= np.arange(len(values))[:, None], after, np.inf)
        begins.append(after.argmin(axis=1))
        places = np.concatenate([[np.inf], after.min(axis=1)])
        costs.append(places[-1] + number * worth)
    lengths, end = [], len(values)
    for chosen in reversed(begins[: int(np.argmin(costs)) + 1]):
        lengths.append(values[end - 1])
        end = int(chosen[end - 1])
    return np.array(lengths[::-1])


def fixed_lengths(limit: int) -> np.ndarray:
    """Those of ``FIXED`` below ``limit``, and ``limit``."""
    return np.array([*(length for length in FIXED if length < limit), limit])


def row_length(lengths: np.ndarray, longest: int) -> int:
    """The shortest of ``lengths`` (ascending) that holds ``longest`` tokens."""
    return int(lengths[np.searchsorted(lengths, longest)])


def by_length(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Numbers of the examples of every batch of one pass, the shortest first."""
    order = np.argsort(lengths, kind="stable")
    for begin in range(0, len(order), batch_size):
        yield order[begin : begin + batch_size]
