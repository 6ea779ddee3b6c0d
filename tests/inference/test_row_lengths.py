import itertools

import numpy as np
import pytest

from bertjax.inference.row_lengths import (
    MOST_LENGTHS,
    MULTIPLE,
    best_lengths,
    by_length,
    fixed_lengths,
    row_length,
)


def test_row_lengths_are_those_that_pad_least():
    """Against all choices of lengths, one by one."""
    random = np.random.default_rng(1)
    longest = np.concatenate([random.integers(3, 30, 60), [40, 41]])
    found = best_lengths(longest, limit=512, worth=0.0)
    places = lambda lengths: sum(min(x for x in lengths if x >= n) for n in longest)
    possible = sorted({-(-int(n) // MULTIPLE) * MULTIPLE for n in longest})
    best = min(places((*c, possible[-1])) for c in itertools.combinations(possible[:-1], MOST_LENGTHS - 1))
    assert len(found) == MOST_LENGTHS and set(found) <= set(possible) and places(found) == best


@pytest.mark.parametrize(
    ("longest", "limit", "expected"), [([3], 512, [4]), ([9, 9], 512, [10]), ([60, 62, 7], 62, [8, 60, 62])]
)
def test_few_row_lengths(longest, limit, expected):
    assert best_lengths(np.array(longest), limit, worth=0.0).tolist() == expected


def test_a_length_more_has_to_save_what_it_is_worth():
    longest = np.array([8] * 10 + [16] * 10 + [64])
    assert [len(best_lengths(longest, 512, worth)) for worth in (0, 79, 81, 600, 10_000)] == [3, 3, 2, 2, 1]


def test_a_row_length_must_be_worth_compiling():
    lengths = np.array([5] * 100 + [10] * 10 + [39])
    assert [best_lengths(lengths, 39, worth).tolist() for worth in (1, 1000, 10**6)] == [[6, 10, 39], [6, 39], [39]]


def test_fixed_lengths_are_the_same_for_all_texts():
    lengths = fixed_lengths(512)
    assert {row_length(lengths, n) for n in range(1, 513)} == {16, 32, 48, 64, 96, 128, 192, 256, 384, 512}
    assert row_length(fixed_lengths(40), 39) == 40 and fixed_lengths(9).tolist() == [9]


def test_batches_by_length():
    assert [batch.tolist() for batch in by_length(np.array([5, 2, 9, 2, 1]), 2)] == [[4, 1], [3, 0], [2]]
    assert list(by_length(np.zeros(0, int), 2)) == []
