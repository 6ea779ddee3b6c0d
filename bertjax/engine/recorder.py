"""Records a run: metrics one step late, rows of the log, throughput, totals over restarts."""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from bertjax.cli.progress import Display
from bertjax.engine.metrics_log import MetricsLog, NoLog
from bertjax.errors import Diverged


class Stage(NamedTuple):
    """Updates number ``first`` .. ``last`` (from 1) of a run: a phase of pretraining, an epoch of fine-tuning."""

    name: str
    first: int
    last: int


class StepCost(NamedTuple):
    """What a step takes: token slots of its rows, and the FLOPs of full rows."""

    slots: int
    flops: float


class Recorder:
    """Takes every step's metrics; writes rows, shows them, and adds up the totals of the run.

    The metrics of a step are fetched when those of the next come in, so that the device always has work.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        fields: Sequence[str],
        every_steps: int,
        log: MetricsLog | NoLog,
        display: Display,
        start: int,
        totals: dict[str, float],
        peak: float | None,
        judge: Callable[[int, dict[str, float]], None],
    ):
        """fields: metrics that are written to rows, of every ``every_steps``-th update. start: updates done before.
        totals: seconds and real_tokens of the run before this start. peak: FLOP/s. judge: gets every step's metrics,
        before anything is written of them."""
        self._judge, self._stages, self._fields, self._every_steps = judge, stages, fields, every_steps
        self._log, self._display, self._start, self._peak = log, display, start, peak
        self._pending: tuple[int, dict[str, jax.Array], StepCost] | None = None
        self._began = time.monotonic()
        self._seconds_before = totals["seconds"]
        self._real_tokens = int(totals["real_tokens"])
        if start:
            self._log.write({"kind": "event", "event": "resumed", "step": start})
        display.begin(start, stages[-1].last)

    def totals(self) -> dict[str, float]:
        """Seconds and real tokens of the whole run up to the last step taken in."""
        return {
            "seconds": round(self._seconds_before + time.monotonic() - self._began, 3),
            "real_tokens": self._real_tokens,
        }

    def rolled_back(self, step: int, real_tokens: int, reason: str) -> None:
        """The run continues from an earlier step: everything is counted as it was then, except the time."""
        self._pending, self._start, self._real_tokens = None, step, real_tokens
        self._log.rewind(step)
        self._log.write({"kind": "event", "event": "went back", "step": step, "reason": reason})

    def begin_stage(self, index: int) -> None:
        self._stage = self._stages[index]
        self._restart_clock()

    def push(self, step: int, metrics: dict[str, jax.Array], cost: StepCost) -> None:
        """Takes in the metrics of completed update ``step``; deals with those of the one before."""
        self._finish()
        self._pending = (step, metrics, cost)

    def flush(self) -> None:
        """Waits for the newest metrics, so that everything is on record and on disk."""
        self._finish()
        self._log.sync()

    def evaluated(self, step: int, values: dict[str, float], line: str) -> None:
        """Records a held-out evaluation after ``step`` updates, and says ``line``. Raises Diverged if a value is
        not finite."""
        if not all(map(math.isfinite, values.values())):
            raise Diverged(f"the held-out evaluation after step {step} is not finite: {values}")
        row = {"kind": "eval", "step": step, "phase": self._stage.name, **values, "seconds": self.totals()["seconds"]}
        self._log.write(row)
        self._log.sync()  # a checkpoint that follows makes it final
        self._display.say(line)
        self._restart_clock()

    def close(self) -> None:
        self._display.end()
        self._log.close()

    def _restart_clock(self) -> None:
        self._interval_began, self._interval_tokens, self._interval_cost = time.monotonic(), 0.0, StepCost(0, 0.0)

    def _finish(self) -> None:
        if self._pending is None:
            return
        (step, metrics, cost), self._pending = self._pending, None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}  # waits for the step
        self._judge(step, values)
        self._real_tokens += int(values["real_tokens"])
        self._interval_tokens += values["real_tokens"]
        self._interval_cost = StepCost(self._interval_cost.slots + cost.slots, self._interval_cost.flops + cost.flops)
        milestone = step in (self._start + 1, self._stage.first, self._stage.last)
        if milestone or step % self._every_steps == 0:
            row = {"kind": "train", "step": step, "phase": self._stage.name}
            seconds = time.monotonic() - self._interval_began
            row |= {name: values[name] for name in self._fields}
            row |= throughput(self._interval_tokens, *self._interval_cost, seconds, self._peak)
            row["seconds"] = self.totals()["seconds"]
            self._log.write(row)
            self._display.show(row, milestone)
            self._restart_clock()


def throughput(real_tokens: float, slots: int, flops: float, seconds: float, peak: float | None):
    """tokens_per_second, mfu (None where the peak is not known) and padding_fraction over some steps.

    real_tokens: tokens that are not padding. slots, flops: token places of the rows done, and FLOPs of these rows
    were they full. peak: FLOP/s of all devices. MFU counts real tokens only.
    """
    filled = real_tokens / slots
    mfu = None if peak is None or seconds <= 0 else flops * filled / seconds / peak
    return {
        "tokens_per_second": real_tokens / seconds if seconds > 0 else 0.0,
        "mfu": mfu,
        "padding_fraction": 1.0 - filled,
    }
