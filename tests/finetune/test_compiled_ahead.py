"""Programs that are compiled ahead of their need."""

import threading
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from bertjax.finetune.trial_job import CompiledAhead


@pytest.fixture
def traced():
    """Names of the threads that traced the function, by length."""
    return {}


@pytest.fixture
def doubled(traced):
    def double(x):
        traced.setdefault(x.shape[0], []).append(threading.current_thread().name)
        if x.shape[0] == 13:
            raise ValueError("thirteen")
        return 2 * x

    return CompiledAhead(jax.jit(double))


def shapes(length):
    return (jax.ShapeDtypeStruct((length,), jnp.float32),)


def call(function, length):
    return function(length, jnp.ones(length)).sum()


def test_a_program_is_compiled_once_by_another_thread(doubled, traced):
    with doubled.compiling({n: partial(shapes, n) for n in (3, 4)}):
        assert [call(doubled, n) for n in (3, 4, 3)] == [6, 8, 6]
    with doubled.compiling({n: partial(shapes, n) for n in (3, 4)}):  # the next trial
        assert call(doubled, 4) == 8
    assert {n: len(names) for n, names in traced.items()} == {3: 1, 4: 1}
    assert all(name.startswith("compiling") for names in traced.values() for name in names)


def test_a_length_that_nobody_announced_is_compiled_by_the_call(doubled, traced):
    with doubled.compiling({3: partial(shapes, 3)}):
        assert call(doubled, 5) == 10
    assert traced[5] == [threading.current_thread().name]


def test_what_was_not_begun_when_the_block_ended_is_left_to_the_call(doubled, traced):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(length):
        begun.release()
        assert go_on.wait(60)
        return shapes(length)

    with doubled.compiling({n: partial(slow, n) for n in range(20, 30)}):
        begun.acquire()
    go_on.set()
    assert call(doubled, 29) == 58
    assert traced[29] == [threading.current_thread().name]
    assert call(doubled, 20) == 40
    assert traced[20][0].startswith("compiling")


def test_an_error_in_compiling_comes_with_the_call(doubled):
    with doubled.compiling({n: partial(shapes, n) for n in (13, 3)}):
        assert call(doubled, 3) == 6
        with pytest.raises(ValueError, match="thirteen"):
            call(doubled, 13)


def test_one_of_several_processes_compiles_nothing_ahead(doubled, traced, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda *_: 2)
    with doubled.compiling({3: partial(shapes, 3)}):
        assert call(doubled, 3) == 6
    assert traced[3] == [threading.current_thread().name]
