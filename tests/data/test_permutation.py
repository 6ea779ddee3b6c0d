from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.data.stream.hashing import permute


@given(n=st.integers(1, 600), key=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_every_place_is_taken_once(n, key):
    assert np.array_equal(np.sort(permute(np.arange(n), n, key)), np.arange(n))


@given(n=st.integers(2, 10**12), key=st.integers(0, 2**64 - 1), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_part_is_a_part_of_the_whole(n, key, data):
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20)))
    together = permute(places, n, key)
    assert ((together >= 0) & (together < n)).all()
    assert together.tolist() == [int(permute(np.array([place]), n, key)[0]) for place in places]


def test_first_place_is_uniform_over_keys():
    firsts = np.array([permute(np.array([0]), 10, key)[0] for key in range(2000)])
    counts = np.bincount(firsts, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-square, 9 degrees of freedom, p = .001


def test_neighbours_do_not_stay_together():
    order = permute(np.arange(10_000), 10_000, 3)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert (order == np.arange(10_000)).sum() < 10
