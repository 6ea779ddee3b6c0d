"""What processes ask of one another, as one of several sees it."""

import jax
import pytest

from bertjax.parallel.agreement import any_of
from bertjax.parallel.mesh import make_mesh


@pytest.fixture
def of_two(monkeypatch):
    """Takes itself for one of two processes; all devices are its own."""
    monkeypatch.setattr(jax, "process_count", lambda *_: 2)


def test_of_several_processes_the_answer_comes_one_step_later(of_two):
    agree = any_of(make_mesh(-1, 1, 1), lambda step: step >= 3)
    assert [agree(step) for step in (1, 2, 3, 4, 5)] == [False, False, False, True, True]


def test_steps_that_are_dispatched_ahead_put_the_answer_off(of_two):
    agree = any_of(make_mesh(-1, 1, 1), lambda step: step >= 3, ahead=3)
    assert [agree(step) for step in range(1, 8)] == [False] * 5 + [True] * 2


def test_what_happens_while_the_earlier_answer_is_waited_for_is_told_at_once(of_two, monkeypatch):
    """Most of a step passes in that wait, and so do most signals come in it."""
    order = []
    agree = any_of(make_mesh(-1, 1, 1), lambda step: order.append(f"asked after {step}") or False)
    agree(1)
    read = type(jax.numpy.zeros(())).__bool__
    monkeypatch.setattr(type(jax.numpy.zeros(())), "__bool__", lambda self: order.append("answer read") or read(self))
    agree(2)
    assert order == ["asked after 1", "answer read", "asked after 2"]


def test_a_process_alone_acts_after_the_same_step():
    agree = any_of(make_mesh(-1, 1, 1), lambda step: step >= 3)
    assert [agree(step) for step in (2, 3)] == [False, True]
