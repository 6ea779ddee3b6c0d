"""Counter-based random draws and permutations: every draw is a hash of a key and a counter, without any state.

A key is a 64-bit integer that ``derive`` mixes from the seed, a purpose and further numbers (epoch, block). A draw
mixes a key with a counter that says what the draw is for (a sentence, a token position). So a draw does not depend on
the order of draws or on who draws, and uint64 arithmetic gives the same bits on every version of numpy.
The mixer is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, with Stafford's variant 13 constants).
"""

from enum import IntEnum
from functools import lru_cache

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_ALL = (1 << 64) - 1
_FEISTEL_ROUNDS = 8


class Purpose(IntEnum):
    """What a key is for. The numbers are part of the data order: never change or reuse one."""

    DOCUMENT_ORDER = 1
    TARGET_LENGTH = 2
    PAIR = 3
    RANDOM_DOCUMENT = 4
    TRUNCATE_A = 5
    TRUNCATE_B = 6
    PACKING = 7
    ROW_ORDER = 8
    QUOTA = 9
    MASK_CHOICE = 10
    MASK_ACTION = 11
    EXAMPLE_ORDER = 12
    BATCH_ORDER = 13


@lru_cache(maxsize=1024)
def derive(*numbers: int) -> int:
    """A 64-bit key from a sequence of non-negative integers; order and count of the numbers matter."""
    key = 0
    for number in numbers:
        mixed = int(draw(key, np.ones(1))[0])
        key = int(draw((mixed + 1) & _ALL, np.array([number & _ALL], np.uint64))[0])
    return key


def draw(key: int, counters: np.ndarray) -> np.ndarray:
    """uint64 bits, one for each counter (any integer type, any shape; not changed)."""
    z = counters.astype(np.uint64)
    z *= np.uint64(_GOLDEN)
    z += np.uint64(key)
    return _finalise(z)


def draw_rows(key: int, rows: np.ndarray, width: int) -> np.ndarray:
    """uint64 bits [len(rows), width]: ``draw`` for the counters row * width + 0 .. width - 1, in fewer passes."""
    start = rows.astype(np.uint64) * np.uint64(width * _GOLDEN & _ALL)
    start += np.uint64(key)
    return _finalise(start[:, None] + np.arange(width, dtype=np.uint64) * np.uint64(_GOLDEN))


def _finalise(z: np.ndarray) -> np.ndarray:
    shifted = z >> np.uint64(30)
    z ^= shifted
    z *= np.uint64(_FIRST)
    np.right_shift(z, np.uint64(27), out=shifted)
    z ^= shifted
    z *= np.uint64(_SECOND)
    np.right_shift(z, np.uint64(31), out=shifted)
    z ^= shifted
    return z


def high(bits: np.ndarray) -> np.ndarray:
    """The upper 32 bits of each draw, as uint64; independent of ``low``."""
    return bits >> np.uint64(32)


def low(bits: np.ndarray) -> np.ndarray:
    """The lower 32 bits of each draw, as uint64."""
    return bits & np.uint64(0xFFFFFFFF)


def below(bits32: np.ndarray, bound: np.ndarray | int) -> np.ndarray:
    """int64 uniform in [0, bound) from 32 random bits (held in uint64); bound at most 2**32."""
    return ((bits32 * np.asarray(bound).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def chance(bits32: np.ndarray, probability: float) -> np.ndarray:
    """bool, True with the given probability, from 32 random bits (held in uint64)."""
    return bits32 < np.uint64(round(probability * 2**32))


def permute(indices: np.ndarray, n: int, key: int) -> np.ndarray:
    """Places of ``indices`` (integers in [0, n), any order) under a permutation of 0 .. n-1 keyed by ``key``; int64,
    same shape. No array of length n is needed.

    A Feistel network permutes the integers of b bits, where 2**b is the smallest power of two that is at least n; a
    value outside n goes through it again until it is inside (cycle walking: Black and Rogaway, "Ciphers with arbitrary
    finite domains", 2002). As 2**b < 2n, a value takes less than two passes on average.
    """
    values = np.array(indices, np.uint64)
    flat = values.reshape(-1)
    outside = np.arange(len(flat) if n > 1 else 0)
    while outside.size:
        flat[outside] = _feistel(flat[outside], (n - 1).bit_length(), key)
        outside = outside[flat[outside] >= np.uint64(n)]
    return values.astype(np.int64)


def _feistel(values: np.ndarray, bits: int, key: int) -> np.ndarray:
    # The halves differ by a bit when b is odd; each round changes one half by a hash of the other, which can be undone.
    right_bits = np.uint64((bits + 1) // 2)
    left_mask, right_mask = (np.uint64((1 << half) - 1) for half in (bits // 2, (bits + 1) // 2))
    left, right = values >> right_bits, values & right_mask
    for number in range(_FEISTEL_ROUNDS):
        round_key = derive(key, number)
        if number % 2:
            left = left ^ (draw(round_key, right) & left_mask)
        else:
            right = right ^ (draw(round_key, left) & right_mask)
    return (left << right_bits) | right
