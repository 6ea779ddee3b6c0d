"""How long training steps take as a run takes them: a step is dispatched before the metrics of the last are read."""

import itertools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from bertjax.batch import Batch
from bertjax.cluster.watchdog import Heartbeat
from bertjax.engine.fit import Step, updates
from bertjax.engine.position import DataPosition, RunPosition

ROUNDS = 5  # of four turns

Feed = Iterator[tuple[Batch, DataPosition]]


class Steps(NamedTuple):
    """seconds: of every step. metrics: of every step, on the host."""

    seconds: list[float]
    metrics: list[dict[str, Any]]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, over the median."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float((high - low) / 2 / self.median)

    def __add__(self, more: "Steps") -> "Steps":  # type: ignore[override]
        return Steps(self.seconds + more.seconds, self.metrics + more.metrics)


def take_steps(here: RunPosition, step: Step, feed: Feed, seconds: float) -> Steps:
    """Steps for about so long, at least one; every one moves ``here``."""
    times, metrics, pending = [time.perf_counter()], [], None
    fetch = lambda of_step: (metrics.append(jax.device_get(of_step)), times.append(time.perf_counter()))
    ended = lambda: pending is not None and time.perf_counter() - times[0] >= seconds
    for _, newest in updates(here, step, feed, Heartbeat(), ended):
        if pending is not None:
            fetch(pending)  # waits for the step before the one that runs now
        pending = newest
    fetch(pending)
    return Steps(np.diff(times).tolist(), metrics)


def fed_and_repeated(here: RunPosition, step: Step, feed: Feed, batch: Batch, seconds: float) -> tuple[Steps, Steps]:
    """Steps on the batches of ``feed``, and on one batch again and again, for about ``seconds`` in all.

    They take short turns in the order fed, repeated, repeated, fed, so that a machine that slows down slows both.
    """
    found: dict[bool, Steps] = {True: Steps([], []), False: Steps([], [])}
    for is_fed in (True, False, False, True) * ROUNDS:
        source = feed if is_fed else itertools.repeat((batch, here.data))
        found[is_fed] += take_steps(here, step, source, seconds / (4 * ROUNDS))
    return found[True], found[False]
