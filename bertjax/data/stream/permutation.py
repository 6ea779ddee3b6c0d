"""A keyed permutation of 0 .. n-1 without an array of length n.

A Feistel network permutes the integers of b bits, where 2**b is the smallest power of two that is at least n; a value
outside n goes through it again until it is inside (cycle walking: Black and Rogaway, "Ciphers with arbitrary
finite domains", 2002). As 2**b < 2n, a value takes less than two passes on average.
"""

from __future__ import annotations

import numpy as np

from bertjax.data.stream.hashing import derive, draw

_ROUNDS = 8


def permute(indices: np.ndarray, n: int, key: int) -> np.ndarray:
    """Places of ``indices`` (integers in [0, n), any order) under the permutation of ``key``; int64, same shape."""
    values = np.asarray(indices).astype(np.uint64)
    if n <= 1:
        return values.astype(np.int64)
    bits = (n - 1).bit_length()
    outside = slice(None)
    walking = values
    while walking.size:
        walking = _feistel(walking, bits, key)
        values[outside] = walking
        still = walking >= np.uint64(n)
        where = np.flatnonzero(still)
        outside = where if isinstance(outside, slice) else outside[where]
        walking = walking[still]
    return values.astype(np.int64)


def _feistel(values: np.ndarray, bits: int, key: int) -> np.ndarray:
    # The halves differ by a bit when b is odd; each round changes one half by a hash of the other, which can be undone.
    right_bits = np.uint64((bits + 1) // 2)
    left, right = values >> right_bits, values & ((np.uint64(1) << right_bits) - np.uint64(1))
    left_mask = np.uint64((1 << (bits // 2)) - 1)
    right_mask = np.uint64((1 << ((bits + 1) // 2)) - 1)
    for number in range(_ROUNDS):
        round_key = derive(key, number)
        if number % 2:
            left = left ^ (draw(round_key, right) & left_mask)
        else:
            right = right ^ (draw(round_key, left) & right_mask)
    return (left << right_bits) | right
