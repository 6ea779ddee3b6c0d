"""A run that goes on with another number of devices and processes, forth and back, is the same run."""

from __future__ import annotations

import functools
import math
import random
import shutil

from result import Result
from runs import Run

BAR = "same batches; every loss within 1e-5 in float32, 1e-2 in bfloat16, of the run that stays where it is"
TOLERANCES = {"float32": 1e-5, "bfloat16": 1e-2}
# (processes, devices of each): 1, 2, 4 and 8 devices, in one process and divided over two.
LAYOUTS = ((1, 1), (1, 2), (2, 1), (1, 4), (2, 2), (1, 8), (2, 4))
STOPPED = 75
PHASE_STEPS = 20  # of each of the two: several processes stop a step later than one does


def layouts(count: int, seed: int, places: tuple[tuple[int, int], ...] = LAYOUTS) -> Result:
    """``count`` runs that stop again and again, and go on with more devices each time, then with fewer."""
    result, worst = Result("layouts", BAR), {}
    for number in range(seed, seed + count):
        precision = list(TOLERANCES)[number % len(TOLERANCES)]
        run, draw = _new_run("layouts", precision), random.Random(number)
        up, down = (sorted(draw.sample(places, len(places)), key=math.prod) for _ in range(2))
        way = [*up, *down[-2::-1]]
        wrong = _moved(run, way)
        if not wrong:
            wrong, deviation = _compared(run, unmoved(precision), TOLERANCES[precision])
            worst[precision] = max(worst.get(precision, 0.0), deviation)
        result.tried += 1
        result.figures["moves"] = str(int(result.figures.get("moves", 0)) + len(way) - 1)
        if wrong:
            again = f"python tests/faults/catalogue.py --only layouts --seed {number} --count 1"
            result.failures.append(f"{precision}, {way}: {'; '.join(wrong)}  [{again}]")
        shutil.rmtree(run.folder)
    result.figures |= {f"worst loss in {name}": f"{value:.1e} off" for name, value in worst.items()}
    return result


@functools.cache
def unmoved(precision: str) -> Run:
    """The run on one device from its first step to its last."""
    run = _new_run("unmoved", precision)
    start = run.start()
    if start.wait() != [0]:
        raise RuntimeError(f"the run that stays where it is failed: {start.said()}")
    return run


def _new_run(name: str, precision: str) -> Run:
    return Run(name, precision, overrides=tuple(f"--config.phases.phase{n}.steps={PHASE_STEPS}" for n in (1, 2)))


def _moved(run: Run, way: list[tuple[int, int]]) -> list[str]:
    """Takes the run through the layouts to its end, with as many steps in each; what went wrong."""
    for place, (run.count, run.devices) in enumerate(way, start=1):
        stop_at = 2 * PHASE_STEPS * place // len(way) if place < len(way) else 0
        start = run.start(stop_at=stop_at)
        codes = start.wait()
        if codes != [STOPPED if stop_at else 0] * run.count:
            return [f"ended with {codes} on {run.count} x {run.devices} devices: {start.said()}"]
    run.count = 2  # for what the second process has written down
    return []


def _compared(run: Run, reference: Run, tolerance: float) -> tuple[list[str], float]:
    """What differs from the reference, and by how much the worst loss does."""
    wrong, worst = [], 0.0
    here, there = run.batches(), reference.batches()
    if here != there:
        wrong.append(f"other batches at steps {[step for step in there if here.get(step) != there[step]]}")
    losses = [{row["step"]: row["loss"] for row in r.rows() if row["kind"] == "train"} for r in (run, reference)]
    if losses[0].keys() != losses[1].keys():
        return [*wrong, f"rows are of steps {sorted(losses[0])}"], worst
    for step, loss in losses[1].items():
        deviation = abs(losses[0][step] - loss) / abs(loss)
        worst = max(worst, deviation)
        if deviation > tolerance:
            wrong.append(f"the loss of step {step} is {deviation:.1e} off")
    return wrong, worst


FAULTS = {"layouts": layouts}
