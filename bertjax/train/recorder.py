"""Keeps the books of a run: metrics a step late, rows, throughput, totals over restarts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import jax

from bertjax.config import RunConfig
from bertjax.model.flops import train_flops_per_row
from bertjax.train import Diverged
from bertjax.train.display import Display
from bertjax.train.log import MetricsLog, NoLog
from bertjax.train.metrics import TRAIN_FIELDS, fetch, throughput


class Recorder:
    """Takes every step's metrics; writes rows, shows them, and adds up what the run has done so far.

    The metrics of a step are fetched when those of the next come in, so that the device always has work.
    """

    def __init__(
        self,
        run: RunConfig,
        log: MetricsLog | NoLog,
        display: Display,
        start: int,
        totals: dict[str, float],
        peak: float | None,
        judge: Callable[[int, dict[str, float]], None],
    ):
        """start: updates done before. totals: seconds and real_tokens of the run before this start. peak: FLOP/s.
        judge: gets every step's metrics, before anything is written of them."""
        self._judge = judge
        self._run, self._log, self._display, self._start, self._peak = run, log, display, start, peak
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        self._began = time.monotonic()
        self._seconds_before = totals["seconds"]
        self._real_tokens = int(totals["real_tokens"])
        if start:
            self._log.write({"kind": "event", "event": "resumed", "step": start})
        display.begin(start, run.total_steps)

    def totals(self) -> dict[str, float]:
        """Seconds and real tokens of the whole run up to the last step taken in."""
        return {
            "seconds": round(self._seconds_before + time.monotonic() - self._began, 3),
            "real_tokens": self._real_tokens,
        }

    def went_back(self, step: int, real_tokens: int, reason: str) -> None:
        """The run goes on from an earlier step: its books are those of then, but for the time."""
        self._pending, self._start, self._real_tokens = None, step, real_tokens
        self._log.rewind(step)
        self._log.write({"kind": "event", "event": "went back", "step": step, "reason": reason})

    def begin_phase(self, index: int) -> None:
        self._name, self._phase = list(self._run.phases.items())[index]
        self._first = self._run.phase_start(index) + 1
        self._last = self._run.phase_start(index) + self._phase.steps
        self._row_flops = train_flops_per_row(self._run.model, self._phase.sequence_length, self._phase.max_predictions)
        self._restart_clock()

    def push(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes in the metrics of completed update ``step``; deals with those of the one before."""
        self._finish()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Waits for the newest metrics, so that everything is on record and on disk."""
        self._finish()
        self._log.sync()

    def evaluated(self, step: int, values: dict[str, float]) -> None:
        """Records a held-out evaluation after ``step`` updates. Raises Diverged where it is not finite."""
        if not all(map(math.isfinite, values.values())):
            raise Diverged(f"the held-out evaluation after step {step} is not finite: {values}")
        row = {"kind": "eval", "step": step, "phase": self._name, **values, "seconds": self.totals()["seconds"]}
        self._log.write(row)
        self._log.sync()  # a checkpoint that follows makes it final
        self._display.say(evaluation_line(step, self._name, values))
        self._restart_clock()

    def close(self) -> None:
        self._display.end()
        self._log.close()

    def _restart_clock(self) -> None:
        self._interval_began, self._interval_tokens, self._interval_steps = time.monotonic(), 0.0, 0

    def _finish(self) -> None:
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        values = fetch(metrics)
        self._judge(step, values)
        self._real_tokens += int(values["real_tokens"])
        self._interval_tokens += values["real_tokens"]
        self._interval_steps += 1
        milestone = step in (self._start + 1, self._first, self._last)
        if milestone or step % self._run.logging.every_steps == 0:
            row = {"kind": "train", "step": step, "phase": self._name}
            row |= {name: values[name] for name in TRAIN_FIELDS} | self._speed() | {"seconds": self.totals()["seconds"]}
            self._log.write(row)
            self._display.show(row, milestone)
            self._restart_clock()

    def _speed(self) -> dict[str, float | None]:
        rows = self._interval_steps * self._phase.batch_size
        seconds = time.monotonic() - self._interval_began
        slots = rows * self._phase.sequence_length
        return throughput(self._interval_tokens, rows, self._row_flops, slots, seconds, self._peak)


def evaluation_line(step: int, phase: str, values: dict[str, float]) -> str:
    """A held-out evaluation in words."""
    line = (
        f"held out at step {step} ({phase}): mlm loss {values['mlm_loss']:.3f} (unigram {values['unigram_loss']:.3f}), "
        f"mlm accuracy {values['mlm_accuracy']:.1%}"
    )
    if "nsp_accuracy" in values:
        line += f", nsp accuracy {values['nsp_accuracy']:.1%} (chance {values['nsp_chance']:.1%})"
    return line
