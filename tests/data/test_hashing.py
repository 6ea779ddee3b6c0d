from __future__ import annotations

import numpy as np

from bertjax.data.stream.hashing import below, chance, derive, draw, draw_rows, high, low


def test_draws_are_pinned():
    # SplitMix64's own reference sequence for seed 0 starts at counter 1.
    assert draw(0, np.array([1, 2, 3])).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_keys_depend_on_order_count_and_value():
    keys = {derive(*numbers) for numbers in [(), (0,), (0, 0), (1,), (1, 0), (0, 1), (1, 2), (2, 1), (2**40,)]}
    assert len(keys) == 9
    assert all(0 <= key < 2**64 for key in keys)


def test_counters_of_any_type_and_shape_give_the_same_bits():
    counters = np.arange(12)
    assert np.array_equal(draw(7, counters).reshape(3, 4), draw(7, counters.astype(np.int32).reshape(3, 4)))
    assert counters.tolist() == list(range(12))


def test_rows_of_draws_are_draws_of_their_counters():
    rows = np.array([5, 0, 2**40])
    assert np.array_equal(draw_rows(9, rows, 7), draw(9, rows[:, None] * 7 + np.arange(7)))


def test_draws_are_uniform():
    bits = draw(derive(5, 1), np.arange(60_000))
    for half in (high(bits), low(bits)):
        counts = np.bincount(below(half, 6), minlength=6)
        assert ((counts - 10_000) ** 2 / 10_000).sum() < 20.5  # chi-square, 5 degrees of freedom, p = .001
    assert abs(np.corrcoef(high(bits).astype(float), low(bits).astype(float))[0, 1]) < 0.015
    assert below(high(bits), np.full(60_000, 1)).max() == 0


def test_chance_is_exact_at_its_ends():
    bits = low(draw(1, np.arange(10_000)))
    assert not chance(bits, 0.0).any() and chance(bits, 1.0).all()
    assert abs(chance(bits, 0.1).mean() - 0.1) < 0.01
