"""Random moments of a run: drawn evenly from the time that another took, and found again whatever the load."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from runs import Run, Start


@dataclass(frozen=True)
class Moment:
    """So many ``seconds`` after a start of the run has written down ``lines`` lines of its trace."""

    lines: int
    seconds: float


def drawn(reference: Run, draw: random.Random) -> Moment:
    """Any moment of the only start of ``reference``."""
    times = [line["seconds"] for line in reference.trace()]
    at = draw.uniform(times[0], times[-1])
    before = [seconds for seconds in times if seconds <= at]
    return Moment(len(before), at - before[-1])


def reached(run: Run, start: Start, moment: Moment, before: int) -> bool:
    """Waits for the moment; False where the run ended first. ``before``: lines that were there when it started."""
    trace = run.folder / "trace0"
    while not trace.exists() or trace.read_bytes().count(b"\n") < before + moment.lines:
        if not start.running():
            return False
        time.sleep(0.001)
    time.sleep(moment.seconds)
    return start.running()
