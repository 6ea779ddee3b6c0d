"""Where a fine-tuning run stands: the state, and everything else of it that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bertjax.engine.checkpoint.record import is_amount, is_count, refuse_nonsense
from bertjax.engine.state import TrainState
from bertjax.train.position import Restored, are_skipped, are_totals, refuse_another_run, worth_going_back_to

# What of a record is the same in all checkpoints of a run.
OF_THE_RUN = ("identity", "random")


def _is_best(value: Any) -> bool:
    is_score = lambda score: type(score) in (int, float) and (is_amount(score) or is_amount(-score))
    return value is None or (isinstance(value, dict) and is_count(value.get("step")) and is_score(value.get("score")))


_MAKES_SENSE = {
    "offset": is_count,
    "totals": are_totals,
    "best": _is_best,
    "since_best": is_count,
    "skipped": are_skipped,
}


@dataclass
class Position:
    """After ``step`` updates. offset: batches that were left out after setbacks, so that the next batch is number
    ``step + offset``. totals: seconds and real_tokens of the run. best: step and metric (better the higher) of the
    best evaluation, None before the first with a value; since_best: evaluations after it."""

    state: TrainState
    step: int = 0
    offset: int = 0
    totals: dict[str, float] = field(default_factory=lambda: {"seconds": 0.0, "real_tokens": 0})
    best: dict[str, Any] | None = None
    since_best: int = 0
    skipped: list[dict[str, Any]] = field(default_factory=list)
    _went_back_to: set[int] = field(default_factory=set)

    @classmethod
    def from_checkpoint(
        cls, step: int, state: TrainState, record: dict[str, Any], constants: dict[str, Any]
    ) -> Position:
        """Raises ConfigError where the checkpoint is of another run (``constants``, but for the versions), and
        CheckpointError where its record makes no sense."""
        refuse_another_run(step, record, constants, OF_THE_RUN)
        refuse_nonsense(step, record, _MAKES_SENSE)
        return cls(state, step, *(record[name] for name in _MAKES_SENSE))

    def record(self) -> dict[str, Any]:
        """The part of a checkpoint's record that changes from step to step."""
        return {
            "step": self.step,
            "offset": self.offset,
            "totals": self.totals,
            "best": self.best,
            "since_best": self.since_best,
            "skipped": self.skipped,
        }

    def evaluated(self, score: float | None) -> bool:
        """Takes note of the metric at this step, better the higher, None where it has no value; whether it is the best
        so far."""
        if score is not None and (self.best is None or score > self.best["score"]):
            self.best, self.since_best = {"step": self.step, "score": score}, 0
            return True
        self.since_best += 1
        return False

    def go_back(self, restored: Restored | None, constants: dict[str, Any], reason: str) -> None:
        """To a checkpoint, but past the batches since. Raises Diverged where that was tried before, or there is no
        checkpoint."""
        step, state, record = worth_going_back_to(restored, self._went_back_to, reason)
        then, upcoming = Position.from_checkpoint(step, state, record, constants), self.step + self.offset
        left_out = {"step": step, "reason": reason, "from": step + then.offset, "to": upcoming}
        self.state, self.step, self.offset, self.totals = then.state, step, upcoming - step, then.totals
        self.best, self.since_best, self.skipped = then.best, then.since_best, [*then.skipped, left_out]
