"""Rows of different lengths in batches of similar lengths, in an order that is a function of the seed.

The examples of an epoch are permuted, split into windows of ``WINDOW`` batches, sorted by length inside each window,
split into batches, and the batches permuted. Batch i of a run is a pure function of i, so a resumed run needs only its
step.
NumPy only.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from bertjax.data.stream.hashing import Purpose, derive, permute
from bertjax.inference.row_lengths import best_lengths, by_length, row_length

# Batches sorted together. With more there is less padding, but examples keep the same neighbours in every epoch.
WINDOW = 100
# The token label of positions that are not trained on.
IGNORED = -1


@dataclass(frozen=True)
class Rows:
    """Tokenised rows, one after the other. ``starts`` int64 [N + 1] divides input_ids and token_type_ids, int32 [T].
    labels: one value (of any shape) per row, by field of the batch. token_labels: int32 [T], one per token."""

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    starts: np.ndarray
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    token_labels: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N], in tokens."""
        return np.diff(self.starts)


class Batches:
    """Batches of ``batch_size`` examples; ``per_example`` rows make one (two for a pair whose texts stand alone).

    ``rows``: rows of a batch, padded to a multiple of ``shards``. limit: the longest row that the model takes. worth:
    tokens of padding, in one pass over the rows, that it costs to compile for another row length.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        limit: int,
        pad_id: int,
        per_example: int = 1,
        shards: int = 1,
        worth: float = 0.0,
    ):
        self._rows, self._batch_size, self._pad_id = rows, batch_size, pad_id
        self._per_example = per_example
        filled, unit = batch_size * per_example, math.lcm(shards, per_example)
        self.rows = -(-filled // unit) * unit
        self._lengths = rows.lengths.reshape(-1, per_example).max(axis=1)
        self.per_epoch = -(-len(self._lengths) // batch_size)
        self.row_lengths = best_lengths(np.sort(self._lengths)[::-1][::batch_size], limit, worth / filled)
        self._epoch = lru_cache(maxsize=2)(self._planned)

    def training(self, seed: int, index: int) -> tuple[np.ndarray, int]:
        """(row numbers [rows], -1 for padding; row length) of batch ``index`` of a run."""
        epoch, number = divmod(index, self.per_epoch)
        return self._batch(self._epoch(seed, epoch)[number])

    def evaluation(self) -> Iterator[tuple[np.ndarray, int]]:
        """The same for one pass over all examples, shortest first."""
        yield from map(self._batch, by_length(self._lengths, self._batch_size))

    def make(self, numbers: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """The batch of these rows; -1 is a row of padding with weight 0."""
        rows, real = self._rows, numbers >= 0
        numbers = np.where(real, numbers, 0)
        sizes = np.where(real, rows.lengths[numbers], 0)
        places = np.arange(length)[None, :]
        filled = places < sizes[:, None]
        index = np.where(filled, rows.starts[numbers][:, None] + places, 0)
        of_tokens = {"input_ids": (rows.input_ids, self._pad_id), "token_type_ids": (rows.token_type_ids, 0)}
        of_tokens |= {name: (values, IGNORED) for name, values in rows.token_labels.items()}
        batch = {name: np.where(filled, values[index], filler) for name, (values, filler) in of_tokens.items()}
        batch |= {"example_ids": filled, "weights": real.astype(np.float32)}
        batch |= {name: values[numbers] for name, values in rows.labels.items()}
        return {name: array if array.dtype == np.float32 else array.astype(np.int32) for name, array in batch.items()}

    def slots(self, seed: int, first: int, last: int) -> int:
        """Token positions, padding included, of the batches ``first`` .. ``last`` - 1 of a run."""
        return sum(self.rows * self.training(seed, index)[1] for index in range(first, last))

    def _planned(self, seed: int, epoch: int) -> list[np.ndarray]:
        count, size = len(self._lengths), self._batch_size
        order = permute(np.arange(count), count, derive(seed, Purpose.EXAMPLE_ORDER, epoch))
        batches = []
        for begin in range(0, count, WINDOW * size):
            window = order[begin : begin + WINDOW * size]
            window = window[np.argsort(self._lengths[window], kind="stable")]
            batches += [window[i : i + size] for i in range(0, len(window), size)]
        places = permute(np.arange(len(batches)), len(batches), derive(seed, Purpose.BATCH_ORDER, epoch))
        return [batches[place] for place in places]

    def _batch(self, examples: np.ndarray) -> tuple[np.ndarray, int]:
        numbers = (examples[:, None] * self._per_example + np.arange(self._per_example)[None, :]).reshape(-1)
        filler = np.full(self.rows - len(numbers), -1, numbers.dtype)
        length = row_length(self.row_lengths, self._lengths[examples].max())
        return np.concatenate([numbers, filler]), length


def joined(rows: list[tuple[list[int], list[int]]], **labels: np.ndarray) -> Rows:
    """Rows from lists of (input_ids, token_type_ids)."""
    sizes = [len(ids) for ids, _ in rows]
    flat = lambda part: np.fromiter((x for row in rows for x in row[part]), np.int32, sum(sizes))
    return Rows(flat(0), flat(1), np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]), labels)
