"""Where a trial is in its batches, and what the records of its checkpoints hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertjax.config_schema import fingerprint
from bertjax.engine.checkpoint.record import is_count
from bertjax.engine.position import RANDOM, Records


@dataclass(frozen=True)
class NextBatch:
    """``number``, from 0, of the next batch. It is the step, plus the batches that were left out after rollbacks."""

    number: int = 0

    def record(self, step: int) -> dict[str, Any]:
        return {"offset": self.number - step}

    def in_stage(self, index: int) -> NextBatch:
        return self

    def since(self, earlier: NextBatch) -> dict[str, Any]:
        return {"from": earlier.number, "to": self.number}


def records(identity: dict[str, Any], seed: int, versions: dict[str, str]) -> Records:
    """identity: all that must be the same on resume."""
    constants = {"identity": fingerprint(identity), "random": RANDOM | {"seed": seed}, "versions": versions}
    data = lambda step, record: NextBatch(step + record["offset"])
    return Records(constants, {"offset": is_count}, data, has_best=True)
