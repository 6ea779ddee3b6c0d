"""Windows and spans against what they say, computed one by one."""

import itertools

import numpy as np
import pytest

from bertjax.tasks.windows import (
    Window,
    WordRow,
    best_spans,
    most_context,
    question_rows,
    windows,
    word_rows,
)


@pytest.mark.parametrize(
    ("length", "room", "shared"), list(itertools.product((1, 5, 8, 9, 31), (1, 4, 8), (0, 1, 3, 100)))
)
def test_windows_hold_every_token_and_share_what_they_should(length, room, shared):
    found = windows(length, room, shared)
    assert found[0].begin == 0 and found[-1].end == length
    assert all(window.end - window.begin <= room for window in found)
    for one, other in itertools.pairwise(found):
        assert one.end - other.begin == min(shared, room // 2)
        assert other.end > one.end  # none is part of another


def test_no_text_has_one_empty_window():
    assert windows(0, 5, 2) == [Window(0, 0)]


def test_the_most_context():
    over = [Window(0, 6), Window(3, 9), Window(6, 10)]
    by_hand = []
    for token in range(10):
        context = [
            min(token - begin, end - 1 - token) + 0.01 * (end - begin) if begin <= token < end else -1
            for begin, end in over
        ]
        by_hand.append(context.index(max(context)))
    assert most_context(over).tolist() == by_hand
    assert by_hand[4] == 0 and by_hand[5] == 1


@pytest.mark.parametrize("max_length", [8, 9, 16, 100])
def test_every_word_is_read_once_at_its_first_piece(max_length):
    random = np.random.default_rng(max_length)
    pieces = [[100 * word + piece for piece in range(random.integers(1, 5))] for word in range(1, 25)]
    rows = word_rows(pieces, 1, 2, max_length)
    assert sorted(word for row in rows for word in row.words) == list(range(24))
    for row in rows:
        assert len(row.input_ids) <= max_length and (row.input_ids[0], row.input_ids[-1]) == (1, 2)
        assert [row.input_ids[position] for position in row.positions] == [pieces[word][0] for word in row.words]
    held = {piece for row in rows for piece in row.input_ids[1:-1]}
    assert held == {piece for word in pieces for piece in word}
    if max_length == 16:  # none is read at the very edge of a window but at the text's own
        inner = rows[1]
        assert 1 not in inner.positions and len(inner.input_ids) - 2 not in inner.positions


def test_no_words_are_one_row():
    assert word_rows([], 1, 2, 8) == [WordRow([1, 2], [], [])]
    with pytest.raises(ValueError, match="max_length = 7 is too small"):
        word_rows([[5]], 1, 2, 7)


def test_rows_hold_question_and_context():
    rows = question_rows([11, 12], list(range(20, 30)), 1, 2, max_length=10, shared=2)
    assert [row.window for row in rows] == [Window(0, 5), Window(3, 8), Window(6, 10)]
    for row in rows:
        begin, end = row.window
        assert row.input_ids == [1, 11, 12, 2, *range(20 + begin, 20 + end), 2]
        assert row.token_type_ids == [0] * 4 + [1] * (end - begin + 1)
        assert row.input_ids[row.first] == 20 + begin


def test_a_long_question_leaves_half_of_the_row():
    (row,) = question_rows([7] * 100, [8] * 4, 1, 2, max_length=12, shared=2)[:1]
    assert row.input_ids == [1, 7, 7, 7, 7, 2, 8, 8, 8, 8, 2]
    with pytest.raises(ValueError, match="max_length = 7 is too small"):
        question_rows([1], [1], 1, 2, 7, 0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tied", [False, True])
def test_the_best_spans_are_the_best_of_all(seed, tied):
    random = np.random.default_rng(seed)
    rows = question_rows([5], [6] * 17, 1, 2, max_length=12, shared=3)
    logits = random.normal(size=(2, len(rows), 12))
    starts, ends = logits = np.round(logits) if tied else logits
    chosen = most_context([row.window for row in rows])
    everything = []
    for number, row in enumerate(rows):
        for begin in range(*row.window):
            for end in range(begin + 1, min(begin + 4, row.window.end) + 1):
                if chosen[begin] == number:
                    at = row.first - row.window.begin
                    score = starts[number][begin + at] + ends[number][end - 1 + at]
                    everything.append((-score, begin, end))
    outputs = np.moveaxis(logits, 0, -1)
    found = best_spans(rows, outputs, n_best=9, longest=4)
    assert [(-span.score, span.begin, span.end) for span in found] == sorted(everything)[:9]
    assert len(best_spans(rows, outputs, n_best=10_000, longest=4)) == len(everything)


def test_no_context_has_no_span():
    rows = question_rows([5], [], 1, 2, max_length=12, shared=3)
    assert best_spans(rows, [np.ones((12, 2))], n_best=5, longest=4) == []
