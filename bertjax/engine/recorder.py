"""Records a run: metrics some steps late, rows of the log, throughput, totals over restarts, what it ran on."""

import importlib.metadata
import math
import platform
import resource
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

import bertjax
from bertjax.cli.progress import Display
from bertjax.engine.metrics_log import MetricsLog, NoLog
from bertjax.errors import Diverged

# What the numbers of a run depend on.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers", "sentencepiece")


class Stage(NamedTuple):
    """Updates number ``first`` .. ``last`` (from 1) of a run: a phase of pretraining, an epoch of fine-tuning."""

    name: str
    first: int
    last: int


class StepCost(NamedTuple):
    """What a step takes: token slots of its rows, and the FLOPs of full rows."""

    slots: int
    flops: float


@dataclass
class Recorder:
    """Takes every step's metrics; writes rows, shows them, and adds up the totals of the run.

    The metrics of a step are fetched ``ahead`` steps later, so that the device always has work. fields: metrics that
    are written to rows, of every ``every_steps``-th update. start: updates done before. before: seconds and real_tokens
    of the run before this start. peak: FLOP/s. judge: gets every step's metrics, before anything is written of them.
    """

    stages: Sequence[Stage]
    fields: Sequence[str]
    every_steps: int
    log: MetricsLog | NoLog
    display: Display
    start: int
    before: Mapping[str, float]
    peak: float | None
    judge: Callable[[int, dict[str, float]], None]
    ahead: int = 1

    def __post_init__(self) -> None:
        self._pending: deque[tuple[int, dict[str, jax.Array], StepCost]] = deque()
        self._began, self._real_tokens = time.monotonic(), int(self.before["real_tokens"])
        if self.start:
            self.log.write({"kind": "event", "event": "resumed", "step": self.start})
        self.display.begin(self.start, self.stages[-1].last)

    def totals(self) -> dict[str, float]:
        """Seconds and real tokens of the whole run up to the last step taken in."""
        seconds = round(self.before["seconds"] + time.monotonic() - self._began, 3)
        return {"seconds": seconds, "real_tokens": self._real_tokens}

    def rolled_back(self, step: int, real_tokens: int, reason: str) -> None:
        """The run continues from an earlier step: everything is counted as it was then, except the time."""
        self._pending.clear()
        self.start, self._real_tokens = step, real_tokens
        self.log.rewind(step)
        self.log.write({"kind": "event", "event": "went back", "step": step, "reason": reason})

    def begin_stage(self, index: int) -> None:
        self._stage = self.stages[index]
        self._restart_clock()

    def push(self, step: int, metrics: dict[str, jax.Array], cost: StepCost) -> None:
        """Takes in the metrics of update ``step``, which was dispatched; deals with those of ``ahead`` steps before."""
        self._pending.append((step, metrics, cost))
        if len(self._pending) > self.ahead:
            self._finish()

    def flush(self) -> None:
        """Waits for the newest metrics, so that everything is on record and on disk."""
        while self._pending:
            self._finish()
        self.log.sync()

    def evaluated(self, step: int, values: dict[str, float], line: str) -> None:
        """Records a held-out evaluation after ``step`` updates, and says ``line``. Raises Diverged if a value is
        not finite."""
        if not all(map(math.isfinite, values.values())):
            raise Diverged(f"the held-out evaluation after step {step} is not finite: {values}")
        row = {"kind": "eval", "step": step, "phase": self._stage.name, **values, "seconds": self.totals()["seconds"]}
        self.log.write(row)
        self.log.sync()  # a checkpoint that follows makes it final
        self.display.say(line)
        self._restart_clock()

    def close(self) -> None:
        self.display.end()
        self.log.close()

    def _restart_clock(self) -> None:
        self._interval_began, self._interval_tokens, self._interval_cost = time.monotonic(), 0.0, StepCost(0, 0.0)

    def _finish(self) -> None:
        step, metrics, cost = self._pending.popleft()
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}  # waits for the step
        self.judge(step, values)
        self._real_tokens += int(values["real_tokens"])
        self._interval_tokens += values["real_tokens"]
        self._interval_cost = StepCost(self._interval_cost.slots + cost.slots, self._interval_cost.flops + cost.flops)
        milestone = step in (self.start + 1, self._stage.first, self._stage.last)
        if milestone or step % self.every_steps == 0:
            row = {"kind": "train", "step": step, "phase": self._stage.name}
            seconds = time.monotonic() - self._interval_began
            row |= {name: values[name] for name in self.fields}
            row |= throughput(self._interval_tokens, *self._interval_cost, seconds, self.peak)
            row["seconds"] = self.totals()["seconds"]
            self.log.write(row)
            self.display.show(row, milestone)
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


def versions() -> dict[str, str]:
    """Of bertjax, Python and ``PACKAGES``."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"bertjax": bertjax.__version__, "python": platform.python_version()} | found


def run_figures(steps: int, totals: Mapping[str, float], places: int) -> dict[str, Any]:
    """What a summary says of the run itself. totals: its seconds and real_tokens; places: token slots of its rows."""
    seconds, real_tokens = totals["seconds"], totals["real_tokens"]
    # Peak bytes: resident memory of this process, and device memory where the device reports it.
    peak = {"host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        peak["device_bytes"] = int(stats["peak_bytes_in_use"])
    device = jax.devices()[0].device_kind
    return {
        "steps": steps,
        "real_tokens": real_tokens,
        "seconds": seconds,
        "tokens_per_second": real_tokens / seconds if seconds else 0.0,
        "padding_fraction": 1.0 - real_tokens / places,
        "peak_memory": peak,
        "devices": {"kind": device, "platform": jax.default_backend(), "count": jax.device_count()},
        "versions": versions(),
    }
