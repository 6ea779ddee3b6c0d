from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.data.stream.packing import pack


def packed(lengths: list[int], row_length: int, max_examples: int, key: int = 0):
    return pack(np.array(lengths, np.int64), row_length, max_examples, key)


def plain_best_fit(lengths: list[int], row_length: int) -> list[int]:
    """Used room of the rows of best-fit decreasing, one example at a time."""
    rows: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row, used in enumerate(rows) if used + length <= row_length]
        if fitting:
            rows[max(fitting, key=lambda row: rows[row])] += length
        else:
            rows.append(length)
    return rows


@given(lengths=st.lists(st.integers(1, 64), max_size=120), most=st.integers(1, 9), key=st.integers(0, 2**60))
@settings(max_examples=80, deadline=None)
def test_every_example_lies_in_one_row_that_holds_it(lengths, most, key):
    rows = packed(lengths, 64, most, key)
    assert sorted(rows.examples.tolist()) == list(range(len(lengths)))
    assert rows.bounds[0] == 0 and rows.bounds[-1] == len(lengths)
    for begin, end in zip(rows.bounds[:-1], rows.bounds[1:], strict=True):
        assert 1 <= end - begin <= most
        assert sum(lengths[i] for i in rows.examples[begin:end]) <= 64


@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=120))
@settings(max_examples=80, deadline=None)
def test_without_a_limit_it_is_best_fit_decreasing(lengths):
    rows = packed(lengths, 64, 64)
    used = np.add.reduceat(np.array(lengths)[rows.examples], rows.bounds[:-1])
    assert sorted(used.tolist()) == sorted(plain_best_fit(lengths, 64))


def test_one_example_a_row_is_shuffled():
    rows = packed([5] * 1000, 64, 1)
    assert len(rows) == 1000
    assert abs(np.corrcoef(rows.examples, np.arange(1000))[0, 1]) < 0.1


def test_rows_are_shuffled_and_full_ones_do_not_come_first():
    lengths = [64] * 500 + [10] * 500
    rows = packed(lengths, 64, 8)
    sizes = np.diff(rows.bounds)
    full = np.flatnonzero(sizes == 1)
    assert abs(full.mean() / len(rows) - 0.5) < 0.1
