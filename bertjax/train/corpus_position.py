"""Where a pretraining run is in its corpus, and what the records of its checkpoints hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bertjax.config import RunConfig, identity_fingerprint
from bertjax.data.stream.cursor import Cursor, switch_phase
from bertjax.data.stream.settings import ORDER
from bertjax.engine.checkpoint.record import refuse_nonsense
from bertjax.engine.position import RANDOM, Records
from bertjax.errors import ConfigError


@dataclass(frozen=True)
class CorpusPosition:
    """cursor: the next row, counted in phase ``phase``."""

    cursor: Cursor = field(default_factory=Cursor)
    phase: int = 0

    def record(self, step: int) -> dict[str, Any]:
        return {"phase": self.phase, "cursor": self.cursor.to_json()}

    def in_stage(self, index: int) -> CorpusPosition:
        """Documents continue where the phase before stopped; after a rollback that may be a later phase."""
        here = self
        while here.phase < index:
            here = CorpusPosition(switch_phase(here.cursor, here.phase), here.phase + 1)
        return here if here.phase == index else CorpusPosition(switch_phase(here.cursor, here.phase), index)

    def since(self, earlier: CorpusPosition) -> dict[str, Any]:
        read = {"from": earlier.cursor.to_json(), "to": self.cursor.to_json()}
        # "to" then counts in the rows of another phase than "from".
        return read if earlier.phase == self.phase else read | {"phase": self.phase}


def data_order(recorded: Mapping[str, Any] | None) -> int:
    """Version of the rules by which a run makes examples: the newest, or that of the config.json of a resumed run.
    Raises ConfigError if a later bertjax began the run."""
    order = ORDER if recorded is None else recorded["corpus"].get("order", 1)
    if order not in range(1, ORDER + 1):
        raise ConfigError(
            f"the run makes its examples by version {order} of the rules, and this bertjax knows {ORDER} of them; go "
            f"on with the bertjax that began it, or use --workdir=ANOTHER_DIR"
        )
    return order


def records(run: RunConfig, tokenizer: str, corpus: str, versions: dict[str, str], order: int = ORDER) -> Records:
    """tokenizer, corpus: their fingerprints. order: of ``data_order``."""
    by = {"data": RANDOM["data"] if order == 1 else f"{RANDOM['data']}, rules {order}"}
    constants = {
        "identity": identity_fingerprint(run),
        "tokenizer": tokenizer,
        "corpus": corpus,
        "random": RANDOM | by | {"seed": run.seed},
        "versions": versions,
    }

    def data(step: int, record: dict[str, Any]) -> CorpusPosition:
        is_phase = lambda phase: phase == run.phase_at(max(0, step - 1))
        refuse_nonsense(step, record, {"phase": is_phase, "cursor": _is_cursor})
        return CorpusPosition(Cursor.from_json(record["cursor"]), record["phase"])

    return Records(constants, data)


def _is_cursor(value: Any) -> bool:
    try:
        return bool(Cursor.from_json(value))
    except (KeyError, ValueError):
        return False
