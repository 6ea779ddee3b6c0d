"""Where a run is: the training state, and everything else that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self

from bertjax.engine.checkpoint.record import is_amount, is_count, refuse_nonsense
from bertjax.engine.state import TrainState
from bertjax.errors import ConfigError, Diverged

# A checkpoint: its step, state and record.
Restored = tuple[int, TrainState, dict[str, Any]]

# The key of a record that says whether the evaluation of its step was postponed.
DUE = "evaluation_due"

# How random numbers are made. Changing any of these makes the same config another run.
RANDOM = {"data": "counter hash", "dropout": "counter hash", "initial weights": "threefry"}


class DataPosition(Protocol):
    """Where the next batch is read; immutable."""

    def record(self, step: int) -> dict[str, Any]:
        """What a checkpoint of ``step`` holds of it."""
        ...

    def in_stage(self, index: int) -> Self:
        """Where stage ``index`` starts to read if the run enters it from here; the same if it is in that stage."""
        ...

    def since(self, earlier: Self) -> dict[str, Any]:
        """What was read after ``earlier``: from, to."""
        ...


class Best(NamedTuple):
    """Step and score (higher is better) of the best evaluation, None before the first that has a score; and how many
    evaluations came after it."""

    step: int | None = None
    score: float | None = None
    evaluations_since: int = 0

    def after(self, step: int, score: float | None) -> Best:
        """With an evaluation at ``step``, whose score is None if it is undefined. The first of equal scores is best."""
        if score is not None and (self.score is None or score > self.score):
            return Best(step, score)
        return self._replace(evaluations_since=self.evaluations_since + 1)


@dataclass
class RunPosition:
    """After ``step`` updates.

    totals: seconds and real_tokens of the run. skipped: data that was left out after a rollback, {step, reason, from,
    to}. best: of a run that chooses a checkpoint by its score. postponed: whether the restored step is still to be
    evaluated.
    """

    state: TrainState
    data: Any  # a DataPosition
    step: int = 0
    totals: dict[str, float] = field(default_factory=lambda: {"seconds": 0.0, "real_tokens": 0})
    skipped: list[dict[str, Any]] = field(default_factory=list)
    best: Best = field(default_factory=Best)
    postponed: bool = False
    _rolled_back_to: set[int] = field(default_factory=set)

    def roll_back(self, to: RunPosition | None, reason: str) -> None:
        """To a checkpoint, but past the data read since. Raises Diverged if that was tried before, or there is no
        checkpoint."""
        if to is None:
            raise Diverged(f"{reason}; there is no checkpoint to go back to, nothing is saved")
        if to.step in self._rolled_back_to:
            raise Diverged(f"{reason}; already rolled back to step {to.step}, the last checkpoint, without success")
        self._rolled_back_to.add(to.step)
        left_out = {"step": to.step, "reason": reason} | self.data.since(to.data)
        self.state, self.step, self.totals, self.best = to.state, to.step, to.totals, to.best
        self.skipped = [*to.skipped, left_out]


@dataclass(frozen=True)
class Records:
    """What the records of a run's checkpoints hold.

    constants: the same in all of them, and on resume too, but for the versions. data: the position in the data from the
    step and the record, whose keys it checks. has_best: whether the best evaluation is on record.
    """

    constants: Mapping[str, Any]
    data: Callable[[int, dict[str, Any]], DataPosition]
    has_best: bool = False

    def position(self, restored: Restored | None) -> RunPosition | None:
        """The position of a restored checkpoint. Raises ConfigError for a checkpoint of another run, CheckpointError
        for a record that makes no sense."""
        if restored is None:
            return None
        step, state, record = restored
        self.check_run(step, record)
        refuse_nonsense(step, record, _KEYS | (_BEST_KEYS if self.has_best else {}))
        best = Best(**(record["best"] or {}), evaluations_since=record["since_best"]) if self.has_best else Best()
        data, postponed = self.data(step, record), record.get(DUE) is True
        return RunPosition(state, data, step, record["totals"], record["skipped"], best, postponed)

    def changes(self, here: RunPosition, held_out_loss: float | None, postponed: bool) -> dict[str, Any]:
        """The part of a record that changes from step to step. held_out_loss: None if the step was not evaluated;
        postponed: if it is still to come."""
        best = None if here.best.step is None else {"step": here.best.step, "score": here.best.score}
        return {
            "step": here.step,
            "totals": here.totals,
            "skipped": here.skipped,
            "held_out_loss": held_out_loss,
            DUE: postponed,
            **here.data.record(here.step),
            **({"best": best, "since_best": here.best.evaluations_since} if self.has_best else {}),
        }

    def check_run(self, step: int, record: Mapping[str, Any]) -> None:
        """Raises ConfigError if the record of a checkpoint is that of another run."""
        for name, value in self.constants.items():
            if name != "versions" and record.get(name) != value:
                raise ConfigError(
                    f"the checkpoint of step {step} is of another run: {name} is {record.get(name)!r} there, "
                    f"{value!r} here"
                )


def _is_best(value: Any) -> bool:
    is_score = lambda score: type(score) in (int, float) and (is_amount(score) or is_amount(-score))
    return value is None or (isinstance(value, dict) and is_count(value.get("step")) and is_score(value.get("score")))


_KEYS: dict[str, Callable[[Any], bool]] = {
    "totals": lambda v: isinstance(v, dict) and is_amount(v.get("seconds")) and is_count(v.get("real_tokens")),
    "skipped": lambda v: isinstance(v, list) and all(isinstance(one, dict) and is_count(one.get("step")) for one in v),
}
_BEST_KEYS = {"best": _is_best, "since_best": is_count}
