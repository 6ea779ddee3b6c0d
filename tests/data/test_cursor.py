from __future__ import annotations

import json

import pytest

from bertjax.data.stream.cursor import Cursor, switch_phase


def test_json_round_trip():
    cursor = Cursor(3, 2, 17, ((0, 5), (1, 9)))
    assert Cursor.from_json(json.loads(json.dumps(cursor.to_json()))) == cursor


@pytest.mark.parametrize("state", [{}, {"epoch": 0, "block": 0, "row": -1, "cuts": []}, {"epoch": "x"}, []])
def test_anything_else_is_refused(state):
    with pytest.raises(ValueError, match="not a data position"):
        Cursor.from_json(state)


def test_switch_notes_what_was_read_and_nothing_at_the_start_of_a_block():
    assert switch_phase(Cursor(1, 2, 30), 0) == Cursor(1, 2, 0, ((0, 30),))
    assert switch_phase(Cursor(1, 2, 7, ((0, 30),)), 1) == Cursor(1, 2, 0, ((0, 30), (1, 7)))
    assert switch_phase(Cursor(1, 2), 0) == Cursor(1, 2)
