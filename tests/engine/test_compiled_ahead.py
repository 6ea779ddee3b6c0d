"""Programs that are compiled ahead of their need."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from bertjax.engine.compiled_ahead import CompiledAhead, steps_of_stages


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


def test_what_failed_in_another_thread_is_compiled_by_the_call(traced):
    def double(x):
        traced.setdefault(x.shape[0], []).append(threading.current_thread().name)
        if len(traced[x.shape[0]]) == 1:
            raise MemoryError
        return 2 * x

    doubled = CompiledAhead(jax.jit(double))
    with doubled.compiling({3: partial(shapes, 3)}):
        assert call(doubled, 3) == 6
    assert traced[3][1:] == [threading.current_thread().name]


def test_one_of_several_processes_compiles_nothing_ahead(doubled, traced, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda *_: 2)
    with doubled.compiling({3: partial(shapes, 3)}):
        assert call(doubled, 3) == 6
    assert traced[3] == [threading.current_thread().name]


class Stages:
    """Functions of stages 0, 2 and 5, each for arrays of its own length; who traced them, in order."""

    def __init__(self):
        self.names = {0: "first", 2: "second", 5: "last"}
        self.traced, self.said = [], []

    def make(self, stage):
        def add(x):
            self.traced.append((stage, threading.current_thread().name.partition("_")[0]))
            if x.shape[0] == 13:
                raise ValueError("thirteen")
            return x + stage

        return jax.jit(add)

    def steps(self, length=lambda stage: stage + 1):
        return steps_of_stages(self.names, self.make, lambda stage: shapes(length(stage)), self.said.append)


@pytest.fixture
def joined(monkeypatch):
    """Threads that compile have done so before ``compiling`` returns: the switch finds everything there."""
    submit = ThreadPoolExecutor.submit

    def waited(self, *arguments):
        future = submit(self, *arguments)
        wait([future])
        return future

    monkeypatch.setattr(ThreadPoolExecutor, "submit", waited)


def test_the_next_stage_is_compiled_while_one_runs(joined):
    stages, main = Stages(), threading.current_thread().name
    with stages.steps() as step:
        for stage in stages.names:
            for _ in range(3):
                function = step(stage)  # as often as a rollback asks for it
                assert function(jnp.ones(stage + 1)).sum() == (stage + 1) ** 2
    assert stages.traced == [(0, main), (2, "compiling"), (5, "compiling")]
    assert set(stages.said) == {"second: its step is compiled already", "last: its step is compiled already"}


def test_an_error_in_the_next_stage_is_met_where_it_begins(joined):
    stages = Stages()
    with stages.steps(length=lambda stage: 13 if stage == 2 else stage + 1) as step:
        assert step(0)(jnp.ones(1)) == 1
        with pytest.raises(ValueError, match="thirteen"):
            step(2)(jnp.ones(13))
        assert step(0)(jnp.ones(1)) == 1
    assert stages.said == []


def test_a_run_that_ends_leaves_the_next_stage(monkeypatch):
    """The thread is at work when the block ends: nobody waits for it."""
    stages, go_on = Stages(), threading.Event()

    def slow(stage):
        assert go_on.wait(60)
        return shapes(stage + 1)

    with steps_of_stages(stages.names, stages.make, slow, stages.said.append) as step:
        assert step(0)(jnp.ones(1)) == 1
    go_on.set()
    assert stages.said == []
