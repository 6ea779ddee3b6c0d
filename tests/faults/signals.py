"""SIGTERM or SIGHUP at any moment: all is saved soon, exit code 75, and the run that goes on ends bit-identical."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any

from comparison import differences
from kills import unkilled
from moments import drawn, reached
from result import Result
from runs import Run, Start
from scene import SAVES, STEPS, new_folder

BAR = "saved at most 2 steps later, exit 75, 95 % within 5 s of their last step, resumed bit-identical"
STOPPED, LOST, MOST_STEPS, MOST_SECONDS = 75, 71, 2, 5.0
# Where the signal comes, and how many processes there are; in "compile" every program is compiled anew.
MOMENTS = [
    ("step", 1),
    ("save", 1),
    ("compile", 1),
    ("step", 2),
    ("random", 1),
    ("compile of phase 2", 1),
    ("save", 2),
    ("start", 1),
    ("restore", 1),
    ("random", 2),
    ("evaluation", 1),
    ("last step", 1),
    ("start", 2),
]

Trace = list[dict[str, Any]]


def sigterm(count: int, seed: int) -> Result:
    """``count`` runs, each sent a SIGTERM once; of two processes one gets it, or both."""
    return _signalled("sigterm", [signal.SIGTERM], count, seed)


def sighup(count: int, seed: int) -> Result:
    """``count`` runs whose terminal is closed: the shell and the kernel send a SIGHUP each."""
    return _signalled("sighup", [signal.SIGHUP, signal.SIGHUP], count, seed)


def _signalled(name: str, signals: list[signal.Signals], count: int, seed: int) -> Result:
    result, after_step, steps_later, at_once = Result(name, BAR), [], [], []
    for number in range(seed, seed + count):
        (moment, processes), draw = MOMENTS[number % len(MOMENTS)], random.Random(number)
        reference = unkilled("float32", processes)
        run = Run(name, "float32", processes)
        wrong, seconds, later = _stopped(run, reference, moment, draw, signals)
        if seconds is not None:
            (at_once if later is None else after_step).append(seconds)
        steps_later += [later] if later is not None else []
        if not wrong:
            start = run.start()
            codes = start.wait()
            wrong = [] if codes == [0] * processes else [f"the run that went on ended with {codes}: {start.said()}"]
        wrong = wrong or differences(run, reference)
        result.tried += 1
        if wrong:
            again = f"python tests/faults/catalogue.py --only {name} --seed {number} --count 1"
            result.failures.append(f"{moment}, {processes} process(es): {'; '.join(wrong)}  [{again}]")
        shutil.rmtree(run.folder)
    result.figures["steps later, at most"] = str(max(steps_later, default="-"))
    for when, values in (("after the step", after_step), ("before there was a step", at_once)):
        if values:
            p95 = sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]
            result.figures[f"seconds to exit {when}"] = f"95 % {p95:.2f}, most {max(values):.2f} (of {len(values)})"
            if p95 > MOST_SECONDS:
                result.failures.append(f"95 % of the exits {when} took up to {p95:.1f} s")
    return result


def _stopped(
    run: Run, reference: Run, moment: str, draw: random.Random, signals: list[signal.Signals]
) -> tuple[list[str], float | None, int | None]:
    """Sends the signals: what was wrong, the seconds that leaving took, and how many steps were done meanwhile.

    The seconds are from the end of the last step on; where none was done, from the signal on, and there are no steps.
    """
    if moment == "restore":
        start = run.start(stop_at=SAVES[1])
        if start.wait() != [STOPPED]:
            return [f"did not stop: {start.said()}"], None, None
    cold = new_folder("compiled") if moment.startswith("compile") else None
    before = [len(run.trace(index)) for index in range(run.count)]
    start = run.start(compiled=cold)
    wait_for = lambda seen, index=0: run.wait_for(start, lambda trace: seen(trace[before[index] :]), index)
    if not all(wait_for(lambda trace: _in(trace, "started"), index) for index in range(run.count)):
        return [f"did not start: {start.said()}"], None, None
    if moment == "random":
        reached(run, start, drawn(reference, draw), before[0])
    elif not wait_for(_moment(moment, draw)):
        return [f"never came to {moment}: {start.said()}"], None, None
    # Before they have met, one would wait for the other for minutes; a scheduler tells all of them.
    met = any(line["what"] == "end" for line in run.trace()[before[0] :])
    signalled, sent = _send(start, draw, signals, to_all=not met)
    codes, left = start.wait(), time.monotonic()
    done = [line for line in run.trace()[before[0] :] if line["what"] == "done"]
    newest = run.arrays().get("step of the checkpoint")
    if not done or (len(done) == 1 and newest != done[0]["step"]):
        # It had not taken note of a step that it could save; of several processes, the others lose the signalled ones.
        right = all(code == STOPPED or (code == LOST and i not in signalled) for i, code in enumerate(codes))
        return [] if right else [f"ended with {codes}: {start.said()}"], left - sent, None
    if codes == [0] * run.count and max(line["step"] for line in done) == STEPS:
        return [], None, None  # the last step was under way: the run is done
    if codes != [STOPPED] * run.count:
        return [f"ended with {codes}: {start.said()}"], None, None
    had_done = [_done_before(run.trace(index)[before[index] :], sent) for index in range(run.count)]
    last = max(done, key=lambda line: line["step"])
    wrong = [] if newest == last["step"] else [f"step {last['step']} was done, and the newest checkpoint is {newest}"]
    later = last["step"] - had_done[0]
    if later > MOST_STEPS:
        wrong.append(f"went on for {later} steps; signalled {signalled}, steps done before, by process: {had_done}")
    return wrong, left - last["seconds"], later


def _moment(moment: str, draw: random.Random) -> Callable[[Trace], bool]:
    """Whether a trace has come to the moment."""
    step = draw.randint(2, STEPS - 3)
    if moment == "step":
        return lambda trace: any(line["what"] == "at" and line["step"] >= step for line in trace)
    if moment == "start":
        return lambda trace: True
    if moment == "last step":
        return lambda trace: any(line["what"] == "at" and line["step"] == STEPS for line in trace)
    if moment == "restore":
        return lambda trace: _in(trace, "restoring")
    stage = {"save": "saving", "compile": "compiling", "compile of phase 2": "compiling", "evaluation": "evaluating"}
    nth = {"save": draw.randint(1, 5), "compile of phase 2": 2}.get(moment, 1)
    return lambda trace: sum(line["what"] == "begin" and line["stage"] == stage[moment] for line in trace) >= nth


def _done_before(trace: Trace, moment: float) -> int:
    """The last step that was done before the moment; 0: none."""
    return max((line["step"] for line in trace if line["what"] == "done" and line["seconds"] < moment), default=0)


def _in(trace: Trace, what: str) -> bool:
    return any(line["what"] == what for line in trace)


def _send(start: Start, draw: random.Random, signals: list[signal.Signals], to_all: bool) -> tuple[list[int], float]:
    """Which processes got the signals, and when."""
    everyone = list(range(len(start.processes)))
    signalled = everyone if to_all else draw.choice([[index] for index in everyone] + [everyone])
    sent = time.monotonic()
    for index in signalled:
        for number in signals:
            with contextlib.suppress(ProcessLookupError):  # it was quicker
                os.kill(start.processes[index].pid, number)
    return signalled, sent


FAULTS = {"sigterm": sigterm, "sighup": sighup}
