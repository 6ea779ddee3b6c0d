"""SIGKILL at any moment: the run that is started again ends bit-identical to the one that was never killed."""

from __future__ import annotations

import functools
import random
import shutil
from collections import Counter
from collections.abc import Callable

from comparison import differences
from moments import drawn, reached
from points import KINDS, PLACES, Point
from result import Result
from runs import Run
from scene import SAVES, STEPS
from whole import whole

BAR = "every run ends with parameters, moments, metrics and batches bit-identical to the unkilled run"
MOMENTS = (*KINDS, *["random"] * 10, "one of two")
PRECISIONS = ("float32", "bfloat16", "float16")
KILLED, LOST = -9, 71


def kill(count: int, seed: int) -> Result:
    """``count`` runs, killed once or several times each."""
    result, tried, starts, restored = Result("kill", BAR), Counter(), 0, 0
    for number in range(seed, seed + count):
        moment, draw = MOMENTS[number % len(MOMENTS)], random.Random(number)
        precision = PRECISIONS[number // len(MOMENTS) % len(PRECISIONS)]
        processes = 2 if moment == "one of two" else 1
        reference = unkilled(precision, processes)
        run = Run("kill", precision, processes)
        wrong = (_at_random if moment == "random" else _at_point)(run, moment, draw)
        wrong = wrong or _finished(run) or differences(run, reference)
        result.tried += 1
        tried[moment] += 1
        starts += run.starts
        restored += any(line["what"] == "restored" and line["step"] for line in run.trace())
        if wrong:
            again = f"python tests/faults/catalogue.py --only kill --seed {number} --count 1"
            result.failures.append(f"{moment}, {precision}: {'; '.join(wrong)}  [{again}]")
        shutil.rmtree(run.folder)
    result.figures = {"starts": str(starts), "went on from a checkpoint": str(restored)}
    result.figures["moments"] = ", ".join(f"{moment} {times}" for moment, times in sorted(tried.items()))
    return result


@functools.cache
def unkilled(precision: str, count: int = 1) -> Run:
    """A run that nothing happens to."""
    if (precision, count) == ("float32", 1):
        return whole()
    run = Run("unkilled", precision, count)
    start = run.start()
    codes = start.wait()
    if codes != [0] * count:
        raise RuntimeError(f"the unkilled run ended with {codes}: {start.said()}")
    return run


def _at_point(run: Run, moment: str, draw: random.Random) -> list[str]:
    """Kills the run at a marked point; where it is not found dead, the trial has failed."""
    killed = 0
    if moment == "one of two":
        point, killed = Point("step", draw.randint(2, STEPS), draw.randint(0, 5)), draw.randint(0, 1)
    else:
        point = _point(moment, draw)
    # There must be something to restore first.
    before = Point("step", draw.randint(SAVES[1] + 1, STEPS)) if moment == "restore" else None
    return (before and _ends(run, before, 0)) or _ends(run, point, killed)


def _point(kind: str, draw: random.Random) -> Point:
    draws: dict[str, Callable[[], tuple[int, ...]]] = {
        "batch": lambda: (draw.randint(1, STEPS),),
        "step": lambda: (draw.randint(1, STEPS), draw.randint(0, 5)),
        "files": lambda: (draw.choice(SAVES), draw.randint(1, 20)),
        "before commit": lambda: (draw.choice(SAVES),),
        "after commit": lambda: (draw.choice(SAVES),),
        "delete": lambda: (draw.randint(1, 120),),
        "restore": lambda: (draw.randint(0, 40),),
        "phase": lambda: (draw.randrange(len(PLACES)),),
        "rename": lambda: (draw.randint(1, 15),),
    }
    return Point(kind, *draws[kind]())


def _ends(run: Run, point: Point, killed: int) -> list[str]:
    """Starts the run, which is to be killed at the point. Several processes end together."""
    start = run.start(point, killed=killed)
    codes = start.wait()
    expected = [KILLED if index == killed else LOST for index in range(run.count)]
    return [] if codes == expected else [f"ended with {codes} and not at {point}: {start.said()}"]


def _at_random(run: Run, moment: str, draw: random.Random) -> list[str]:
    """Kills the run from outside, one to three times."""
    for _ in range(draw.randint(1, 3)):
        before, start = len(run.trace()), run.start()
        reached(run, start, drawn(unkilled(run.precision), draw), before)
        start.kill()
        (code,) = start.wait()
        if code not in (KILLED, 0):  # it may have ended well just before
            return [f"ended with {code} before it was killed: {start.said()}"]
    return []


def _finished(run: Run) -> list[str]:
    start = run.start()
    codes = start.wait()
    return [] if codes == [0] * run.count else [f"the run that went on ended with {codes}: {start.said()}"]


FAULTS = {"kill": kill}
