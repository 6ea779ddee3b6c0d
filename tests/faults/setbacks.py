"""Rollbacks on demand: after given steps the guard sends a run back, past newest checkpoints that are damaged then."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import harms
from scene import STEPS

STARTS = (3, 6, 9, 12, 15)
# How a bit or a file goes wrong; "unreadable" needs another user than root.
KINDS = ("flip", "flip", "truncate", "missing", "empty", "zeroed", "stale")


class Setback(NamedTuple):
    """After ``step`` the run rolls back, and of its newest checkpoints ``damaged`` are harmed, by the seed."""

    step: int
    damaged: int
    seed: int


class Plan(NamedTuple):
    """A run that goes on from the checkpoint of ``start``."""

    start: int
    setbacks: tuple[Setback, ...]


def drawn(seed: int) -> Plan:
    """What the seed chooses: one rollback, or two, past one to three damaged checkpoints."""
    draw = random.Random(seed)
    start = draw.choice(STARTS)
    first = draw.randint(start + 1, STEPS)
    steps = [first]
    if first < STEPS and draw.random() < 0.3:
        steps.append(draw.randint(first + 1, STEPS))
    return Plan(start, tuple(Setback(step, draw.choice((1, 1, 2, 3)), draw.randrange(1 << 30)) for step in steps))


class Guarded:
    """Takes the place of ``Guard.judge``. harmed: the steps that were damaged, each with what was done to it; folders:
    the inodes of their folders, as a step may be saved again."""

    def __init__(self, workdir: Path, setbacks: tuple[Setback, ...], harming: bool):
        self._folder, self._harming = workdir / "checkpoints", harming
        self._pending = {setback.step: setback for setback in setbacks}
        self.harmed: dict[int, str] = {}
        self.folders: set[int] = set()

    def judge(self, step: int) -> None:
        """Raises the run's own Rollback where one is due after this step; of several processes one does the harm."""
        from bertjax.engine import guard

        setback = self._pending.pop(step, None)
        if setback is None:
            return
        if self._harming:
            self._harm(setback)
        raise guard.Rollback(f"step {step} is said to be bad")

    def _harm(self, setback: Setback) -> None:
        draw = random.Random(setback.seed)
        there = sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())
        for number in there[-setback.damaged :][::-1]:
            step, kind = self._folder / str(number), draw.choice(KINDS)
            # "stale" takes the file of the step before the newest: of the only step there is none
            kind = "missing" if kind == "stale" and (len(there) < 2 or number != there[-1]) else kind
            self.folders.add(step.stat().st_ino)
            names = harms.files(step)
            weights = None if draw.random() < 0.5 else [(step / name).stat().st_size for name in names]
            (name,) = draw.choices(names, weights)
            try:
                self.harmed[number] = f"{name}: {harms.HARMS[kind](step / name, draw)}"
            except ValueError:  # a folder that is being deleted or has a name of its own
                self.harmed[number] = f"{name}: {harms.HARMS['missing'](step / name, draw)}"


def install(workdir: Path, setbacks: tuple[Setback, ...], harming: bool) -> Guarded:
    """Puts it in the place of the guard's judgement, for the next run of this process."""
    from bertjax.engine.guard import Guard

    guarded, judge = Guarded(workdir, setbacks, harming), getattr(Guard, "judged_before", Guard.judge)

    def judged(self, step, values):
        judge(self, step, values)
        guarded.judge(step)

    Guard.judged_before, Guard.judge = judge, judged
    return guarded
