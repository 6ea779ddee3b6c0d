"""Where a run stands: the state, and everything else of it that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bertjax.config import RunConfig, identity_fingerprint
from bertjax.data.stream.cursor import Cursor, switch_phase
from bertjax.data.stream.settings import ORDER
from bertjax.engine.checkpoint.record import is_amount, is_count, refuse_nonsense
from bertjax.engine.state import TrainState
from bertjax.errors import CheckpointError, ConfigError, Diverged

# A checkpoint: its step, state and record.
Restored = tuple[int, TrainState, dict[str, Any]]

# In the record of a checkpoint: whether the evaluation of its step has been put off until the run goes on.
DUE = "evaluation_due"

# How random numbers are made; a change of any of these makes another run of the same config.
RANDOM = {"data": "counter hash", "dropout": "counter hash", "initial weights": "threefry"}


def data_order(recorded: Mapping[str, Any] | None) -> int:
    """Version of the rules by which a run makes examples: the newest, or that of its config.json where it goes on.

    Raises ConfigError where a later bertjax began the run.
    """
    order = ORDER if recorded is None else recorded["corpus"].get("order", 1)
    if order not in range(1, ORDER + 1):
        raise ConfigError(
            f"the run makes its examples by version {order} of the rules, and this bertjax knows {ORDER} of them; go "
            f"on with the bertjax that began it, or use --workdir=ANOTHER_DIR"
        )
    return order


def run_constants(
    run: RunConfig, tokenizer: str, corpus: str, versions: dict[str, str], order: int = ORDER
) -> dict[str, Any]:
    """What the record of every checkpoint of a run has in common; ``tokenizer``, ``corpus``: their fingerprints;
    ``order``: of ``data_order``."""
    by = {"data": RANDOM["data"] if order == 1 else f"{RANDOM['data']}, rules {order}"}
    return {
        "identity": identity_fingerprint(run),
        "tokenizer": tokenizer,
        "corpus": corpus,
        "random": RANDOM | by | {"seed": run.seed},
        "versions": versions,
    }


def refuse_another_run(step: int, record: dict[str, Any], constants: dict[str, Any], names: tuple[str, ...]) -> None:
    """Raises ConfigError where a checkpoint's ``record`` differs from the run's ``constants`` in one of ``names``."""
    for name in names:
        if record.get(name) != constants[name]:
            raise ConfigError(
                f"the checkpoint of step {step} is of another run: {name} is {record.get(name)!r} there, "
                f"{constants[name]!r} here"
            )


def is_due(restored: Restored | None) -> bool:
    """Whether the evaluation of a restored checkpoint is still to be done."""
    return restored is not None and restored[2].get(DUE) is True


def are_totals(value: Any) -> bool:
    """Whether a value from a record is what ``Standing.totals`` is."""
    return isinstance(value, dict) and is_amount(value.get("seconds")) and is_count(value.get("real_tokens"))


def are_skipped(value: Any) -> bool:
    """Whether a value from a record lists what was left out after setbacks."""
    return isinstance(value, list) and all(isinstance(one, dict) and is_count(one.get("step")) for one in value)


def worth_going_back_to(restored: Restored | None, before: set[int], reason: str) -> Restored:
    """``restored``, whose step is added to ``before``. Raises Diverged where there is none, or it has been gone back
    to already."""
    if restored is None:
        raise Diverged(f"{reason}; there is no checkpoint to go back to, nothing is saved")
    step = restored[0]
    if step in before:
        raise Diverged(f"{reason}; to go back to step {step} has not helped, which is the last checkpoint")
    before.add(step)
    return restored


@dataclass
class Standing:
    """After ``step`` updates. ``cursor``: the next data, counted in phase ``phase``. ``totals``: seconds and
    real_tokens of the run. ``skipped``: data that was left out after a setback, {step, reason, from, to}."""

    state: TrainState
    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    phase: int = 0
    totals: dict[str, float] = field(default_factory=lambda: {"seconds": 0.0, "real_tokens": 0})
    skipped: list[dict[str, Any]] = field(default_factory=list)
    _went_back_to: set[int] = field(default_factory=set)

    @classmethod
    def from_checkpoint(
        cls,
        step: int,
        state: TrainState,
        record: dict[str, Any],
        constants: dict[str, Any],
        phase_at: Callable[[int], int],
    ) -> Standing:
        """phase_at: index of the phase of update number ``step`` (0-based).

        Raises ConfigError where the checkpoint is of another run (``constants``, but for the versions), and
        CheckpointError where its record makes no sense.
        """
        refuse_another_run(step, record, constants, ("identity", "tokenizer", "corpus", "random"))
        own_phase = lambda value: is_count(value) and value == phase_at(max(0, step - 1))
        makes_sense = {"phase": own_phase, "totals": are_totals, "skipped": are_skipped}
        refuse_nonsense(step, record, makes_sense)
        return cls(state, step, _cursor(step, record), record["phase"], record["totals"], record["skipped"])

    def record(self) -> dict[str, Any]:
        """The part of a checkpoint's record that changes from step to step."""
        return {
            "step": self.step,
            "phase": self.phase,
            "cursor": self.cursor.to_json(),
            "totals": self.totals,
            "skipped": self.skipped,
        }

    def enter_phase(self, index: int) -> None:
        """The documents go on where the phase before stopped in them; after a rollback that may be a later one."""
        if self.phase > index:
            self.cursor, self.phase = switch_phase(self.cursor, self.phase), index
        while self.phase < index:
            self.cursor, self.phase = switch_phase(self.cursor, self.phase), self.phase + 1

    def go_back(
        self, restored: Restored | None, constants: dict[str, Any], phase_at: Callable[[int], int], reason: str
    ) -> None:
        """To a checkpoint, but past the data read since. Raises Diverged where that was tried before, or there is
        no checkpoint."""
        step, state, record = worth_going_back_to(restored, self._went_back_to, reason)
        then = Standing.from_checkpoint(step, state, record, constants, phase_at)
        left_out = {"step": step, "reason": reason, "from": then.record()["cursor"], "to": self.cursor.to_json()}
        self.state, self.step, self.totals = then.state, step, then.totals
        self.skipped = [*then.skipped, left_out]
        if then.phase != self.phase:  # "to" counts in the rows of another phase than "from"
            left_out["phase"] = self.phase
        self.enter_phase(phase_at(step))


def _cursor(step: int, record: Mapping[str, Any]) -> Cursor:
    try:
        return Cursor.from_json(record["cursor"])
    except (KeyError, ValueError):
        raise CheckpointError(
            f"the record of the checkpoint of step {step} makes no sense: cursor is {str(record.get('cursor'))[:100]}"
        ) from None
