"""Examples -> rows: best-fit decreasing over a whole block, then a keyed shuffle of the rows.

Best-fit decreasing takes the longest example first and puts each into the row with the least room that still fits it
(Johnson 1974). There are at most as many distinct lengths and rooms as tokens in a row, so whole groups of rows with
equal room are filled at once; the loop runs over groups, not over examples.
"""

from dataclasses import dataclass

import numpy as np

from bertjax.data.stream.hashing import Purpose, derive, draw


@dataclass(frozen=True)
class Rows:
    """Row r holds the examples ``examples[bounds[r] : bounds[r + 1]]``, left to right; int64 arrays."""

    examples: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        return len(self.bounds) - 1


def pack(lengths: np.ndarray, row_length: int, max_examples: int, key: int) -> Rows:
    """Packs examples of ``lengths`` tokens (1 .. row_length, specials included) into rows and shuffles the rows.

    Draws by ``key``, one for each example, order examples of equal length, so that neighbours in a document are
    separated, and the rows (draw r for the r-th row opened).
    """
    numbers = np.arange(len(lengths))
    tie_bits, row_bits = (draw(derive(key, purpose), numbers) for purpose in (Purpose.PACKING, Purpose.ROW_ORDER))
    if max_examples == 1:
        return Rows(_order(row_bits), np.arange(len(lengths) + 1))
    # Longest first; of equal length by the draw.
    order = _order((tie_bits >> np.uint64(16)) | ((row_length - lengths).astype(np.uint64) << np.uint64(48)))
    row_of, slot_of, rows = _best_fit(np.bincount(lengths, minlength=row_length + 1), row_length, max_examples)
    shuffled = _order(row_bits[:rows])
    place = np.empty(rows, np.int64)
    place[shuffled] = np.arange(rows)
    bounds = np.concatenate(([0], np.cumsum(np.bincount(row_of, minlength=rows)[shuffled])))
    examples = np.empty(len(lengths), np.int64)
    examples[bounds[place[row_of]] + slot_of] = order
    return Rows(examples, bounds)


def _order(keys: np.ndarray) -> np.ndarray:
    """int64 order of uint64 keys, stable. The index replaces the lowest bits of the key: sorting plain integers is much
    faster than argsort."""
    bits = np.uint64(len(keys).bit_length())
    ordered = np.sort((keys >> bits << bits) | np.arange(len(keys), dtype=np.uint64))
    return (ordered & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)


def _best_fit(counts: np.ndarray, row_length: int, max_examples: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(row, place in the row) of each example, longest first, and the number of rows. ``counts``: examples by
    length."""
    row_of = np.empty(int(counts.sum()), np.int64)
    slot_of = np.empty_like(row_of)
    # Open rows by room: lists of (row numbers, examples in each); bit r of ``open_rooms``: there are rows with room r.
    groups: list[list[tuple[np.ndarray, int]]] = [[] for _ in range(row_length + 1)]
    open_rooms = 0
    rows = done = 0
    for length in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[length])
        while left:
            fitting = open_rooms >> length
            if fitting:
                room = length + (fitting & -fitting).bit_length() - 1
                numbers, used = groups[room].pop()
                if not groups[room]:
                    open_rooms &= ~(1 << room)
            else:
                room, used = row_length, 0
                numbers = np.arange(rows, rows + -(-left // min(row_length // length, max_examples)))
                rows += len(numbers)
            # A row that took one example is now the tightest: it takes as many as fit before the next row is used.
            each = min(room // length, max_examples - used)
            full = min(len(numbers), left // each)
            parts = [(numbers[:full], each)]
            if full < len(numbers):
                rest = left - full * each
                parts += [(numbers[full : full + 1], rest), (numbers[full + 1 :], 0)]
            for part, taken in parts:
                if not len(part):
                    continue
                placed = taken * len(part)
                row_of[done : done + placed] = np.repeat(part, taken)
                slot_of[done : done + placed] = np.tile(np.arange(used, used + taken), len(part))
                done += placed
                left -= placed
                if used + taken < max_examples and room - taken * length > 0:
                    groups[room - taken * length].append((part, used + taken))
                    open_rooms |= 1 << (room - taken * length)
    return row_of, slot_of, rows
