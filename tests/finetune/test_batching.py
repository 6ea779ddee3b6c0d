"""Batches by length: every example once an epoch, little padding, an order that is a function of the seed."""

import numpy as np
import pytest

from bertjax.finetune.batching import IGNORED, Batches, Rows, joined
from bertjax.inference.row_lengths import MOST_LENGTHS


def rows_of(lengths, **labels):
    return joined([(list(range(1, n + 1)), [0] * n) for n in lengths], **labels)


@pytest.fixture(scope="module")
def lengths():
    """As in a real data set: many short, few long."""
    return np.random.default_rng(0).lognormal(2.5, 0.6, 10_000).astype(int).clip(3, 128)


def epoch(batches, seed, number=0):
    first = number * batches.per_epoch
    return [batches.training(seed, first + i) for i in range(batches.per_epoch)]


def test_every_example_once_an_epoch_and_no_row_too_short(lengths):
    batches = Batches(rows_of(lengths), 32, limit=128, pad_id=0)
    for number in (0, 1):
        found = epoch(batches, 7, number)
        assert sorted(n for numbers, _ in found for n in numbers if n >= 0) == list(range(len(lengths)))
        assert all(lengths[numbers[numbers >= 0]].max() <= length for numbers, length in found)
        assert all(len(numbers) == 32 for numbers, _ in found)


def test_the_order_is_a_function_of_seed_and_number(lengths):
    one, other = (Batches(rows_of(lengths), 32, limit=128, pad_id=0) for _ in range(2))
    middle = one.per_epoch + 5
    alone = other.training(7, middle)
    walked = [one.training(7, i) for i in range(middle + 1)][-1]
    assert alone[1] == walked[1]
    np.testing.assert_array_equal(alone[0], walked[0])
    assert not np.array_equal(one.training(8, middle)[0], walked[0])
    first, second = (np.concatenate([numbers for numbers, _ in epoch(one, 7, n)]) for n in (0, 1))
    assert not np.array_equal(first, second)


def test_long_batches_come_at_any_time(lengths):
    sizes = np.array([length for _, length in epoch(Batches(rows_of(lengths), 32, 128, 0), 7)])
    assert abs(np.corrcoef(sizes, np.arange(len(sizes)))[0, 1]) < 0.2


def test_little_padding_with_few_row_lengths(lengths):
    batches = Batches(rows_of(lengths), 32, limit=128, pad_id=0)
    found = [length for _, length in epoch(batches, 7)]
    assert len(set(found)) <= MOST_LENGTHS
    slots = batches.slots(7, 0, batches.per_epoch)
    assert slots == 32 * sum(found)
    padding, to_the_longest = 1 - lengths.sum() / slots, 1 - lengths.mean() / 128
    print(f"padding {padding:.1%} in {len(set(found))} row lengths; padded to the longest {to_the_longest:.1%}")
    assert padding < 0.2 < to_the_longest


def test_devices_change_how_many_rows_there_are_and_nothing_else(lengths):
    one, *others = (Batches(rows_of(lengths), 6, 128, 0, 2, shards, worth=400.0) for shards in (1, 3, 5, 8))
    assert [batches.rows for batches in (one, *others)] == [12, 12, 20, 16]
    for batches in others:
        assert batches.row_lengths.tolist() == one.row_lengths.tolist()
        for (numbers, length), (expected, there) in zip(epoch(batches, 7), epoch(one, 7), strict=True):
            assert numbers[:12].tolist() == expected.tolist() and length == there and set(numbers[12:]) <= {-1}


def test_the_rest_of_the_last_batch_weighs_nothing():
    labels = np.arange(5, dtype=np.int32)
    batches = Batches(rows_of([3, 4, 5, 6, 7], labels=labels), 4, limit=64, pad_id=9)
    assert batches.per_epoch == 2
    found = [batches.make(*batches.training(0, i)) for i in range(2)]
    short = min(found, key=lambda batch: batch["weights"].sum())
    assert short["weights"].tolist() == [1, 0, 0, 0]
    assert (short["example_ids"][1:] == 0).all() and (short["input_ids"][1:] == 9).all()
    seen = sorted(
        label for batch in found for label, weight in zip(batch["labels"], batch["weights"], strict=True) if weight
    )
    assert seen == [0, 1, 2, 3, 4]


def test_what_is_in_a_batch():
    rows = Rows(
        np.array([11, 12, 13, 21, 22], np.int32),
        np.array([0, 0, 1, 0, 1], np.int32),
        np.array([0, 3, 5]),
        {"several": np.array([[1, 0], [0, 1]], np.float32)},
        {"labels": np.array([IGNORED, 4, 5, IGNORED, 6], np.int32)},
    )
    batch = Batches(rows, 2, limit=64, pad_id=7).make(np.array([1, 0]), 8)
    np.testing.assert_array_equal(batch["input_ids"][:, :4], [[21, 22, 7, 7], [11, 12, 13, 7]])
    np.testing.assert_array_equal(batch["token_type_ids"][:, :4], [[0, 1, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(batch["example_ids"].sum(axis=1), [2, 3])
    np.testing.assert_array_equal(batch["labels"][:, :4], [[-1, 6, -1, -1], [-1, 4, 5, -1]])
    np.testing.assert_array_equal(batch["several"], [[0, 1], [1, 0]])
    assert {array.dtype.name for array in batch.values()} == {"int32", "float32"}


def test_the_rows_of_a_pair_stay_together_and_shards_divide_the_rows():
    batches = Batches(rows_of([3, 9, 4, 4, 5, 20]), 3, limit=64, pad_id=0, per_example=2, shards=4)
    numbers, length = batches.training(0, 0)
    assert batches.rows == len(numbers) == 8 and length == 20
    pairs = numbers[:6].reshape(3, 2)
    assert (pairs[:, 1] == pairs[:, 0] + 1).all() and (pairs[:, 0] % 2 == 0).all()
    assert numbers[6:].tolist() == [-1, -1]


def test_evaluation_goes_over_all_examples_by_length(lengths):
    found = list(Batches(rows_of(lengths), 48, limit=128, pad_id=0).evaluation())
    assert sorted(n for numbers, _ in found for n in numbers if n >= 0) == list(range(len(lengths)))
    assert [length for _, length in found] == sorted(length for _, length in found)
