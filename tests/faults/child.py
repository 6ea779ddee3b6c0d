"""A training process of a trial: it writes down what it does as it does it, and may kill itself at a marked point.

This module is loaded once, with jax and bertjax, by the process that all trials are forked from: that saves the
seconds which importing takes. Nothing here may start a thread or a jax backend before ``train`` is called.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import setbacks
from points import Killer, Point

import bertjax.train.__main__ as command
import bertjax.train.pretraining as loop
from bertjax.cli.command import leave
from bertjax.cluster.training_command import StopRequest
from bertjax.cluster.watchdog import IN_STEP, Heartbeat
from bertjax.engine.checkpoint.checkpoints import Checkpoints
from bertjax.engine.recorder import Recorder
from bertjax.parallel.sharding import own_rows

# What is loaded stays; looking for garbage in it would take a tenth of a trial's time.
gc.freeze()
gc.set_threshold(100_000, 50, 100)


@dataclass(frozen=True)
class Plan:
    """What a child is to do. stop_at: the update after which it stops, as after a signal; 0: none. step_seconds: that
    every step takes longer. setbacks: where the run rolls back, and harming: whether this process damages what is then
    there."""

    arguments: tuple[str, ...]
    workdir: Path
    trace: Path
    log: Path
    cache: Path
    compiled: Path
    core: int
    devices: int = 1
    point: Point | None = None
    setbacks: tuple[setbacks.Setback, ...] = ()
    harming: bool = True
    stop_at: int = 0
    step_seconds: float = 0.0


def train(plan: Plan) -> None:
    """Runs ``python -m bertjax.train`` as ``plan`` says, and exits with its code."""
    output = os.open(plan.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.sched_setaffinity(0, {plan.core})  # the same threads in every run, so the same sums
    os.environ["BERTJAX_CACHE"] = str(plan.cache)
    devices = f"--xla_force_host_platform_device_count={plan.devices}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {devices}"  # of two that are alike the last counts
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", str(plan.compiled))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    _every_process_keeps_programs()
    write = _writer(plan.trace)
    follow(write, Killer(plan.point, plan.workdir) if plan.point else None, plan.step_seconds)
    if plan.setbacks:
        setbacks.install(plan.workdir, plan.setbacks, plan.harming)
    if plan.stop_at:
        StopRequest.__call__ = lambda self, step: step >= plan.stop_at
    leave(command.main(list(plan.arguments)))


def _every_process_keeps_programs() -> None:
    """jax lets only the first process write to the cache, and on CPUs the others cannot read what that one writes."""
    compiler, state = jax._src.compiler, jax._src.distributed.global_state

    def write(*arguments, before=compiler._cache_write):
        with mock.patch.object(state, "process_id", 0):
            before(*arguments)

    compiler._cache_write = write


def _writer(path: Path) -> Callable[..., None]:
    """``write(what, **values)``: a JSON line a call, each in one piece; what is written survives the process."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(what: str, **values: Any) -> None:
        line = {"what": what, "seconds": time.monotonic(), "process": os.getpid()} | values
        os.write(file, (json.dumps(line) + "\n").encode())

    return write


def follow(write: Callable[..., None], killer: Killer | None, step_seconds: float = 0.0) -> None:
    """Wraps what the loop calls, so that every stage is written down and the killer hears of it."""

    def at(self, stage, step, before=Heartbeat.at):
        before(self, stage, step)
        write("at", stage=stage, step=step)
        if stage == IN_STEP:
            time.sleep(step_seconds)
        if killer:
            killer.at(stage, step)

    @contextlib.contextmanager
    def pause(self, stage, before=Heartbeat.pause):
        with before(self, stage):
            write("begin", stage=stage, step=self.step)
            if killer:
                killer.phase(stage, 0)
            yield
        write("end", stage=stage, step=self.step)

    def push(self, step, *rest, before=Recorder.push):
        before(self, step, *rest)
        write("done", step=step)

    def begin_stage(self, index, before=Recorder.begin_stage):
        if killer:
            killer.phase("before", index)
        before(self, index)
        if killer:
            killer.phase("after", index)

    def restore(self, *rest, before=Checkpoints.restore_newest):
        write("restoring")
        if killer:
            killer.restoring(done=False)
        restored = before(self, *rest)
        if killer:
            killer.restoring(done=True)
        write("restored", step=restored[0] if restored else 0)
        return restored

    def open_batches(*positional, before=loop.open_batches, **named):
        return _Hashed(before(*positional, **named), named["rows"], write)

    def enter(self, before=StopRequest.__enter__):
        entered = before(self)
        write("started")  # signals are the run's own from here on
        return entered

    def on_signal(self, number, frame, before=StopRequest._on_signal):
        write("signal")
        before(self, number, frame)

    Heartbeat.at, Heartbeat.pause = at, pause
    Recorder.push, Recorder.begin_stage = push, begin_stage
    Checkpoints.restore_newest = restore
    loop.open_batches = open_batches
    StopRequest.__enter__, StopRequest._on_signal = enter, on_signal


class _Hashed:
    """Batches that are written down as they are handed out: a hash a row, with the row's number in the batch."""

    def __init__(self, batches: Any, rows: Any, write: Callable[..., None]):
        self._batches, self._rows, self._write = batches, [int(row) for row in rows], write

    def __iter__(self) -> _Hashed:
        return self

    def __next__(self) -> Any:
        placed, position = next(self._batches)
        batch = {name: own_rows(field) for name, field in placed.items()}
        found = {}
        for index, row in enumerate(self._rows):
            content = b"".join(batch[name][index].tobytes() for name in sorted(batch))
            found[row] = hashlib.blake2b(content, digest_size=8).hexdigest()
        self._write("batch", rows=found)
        return placed, position

    def __enter__(self) -> _Hashed:
        self._batches.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._batches.__exit__(*error)
