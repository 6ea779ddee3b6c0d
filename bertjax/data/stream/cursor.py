"""The position of a run in its data: a few integers, the same in every process, saved in the checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self


@dataclass(frozen=True)
class Cursor:
    """The next row to read: row ``row`` of the plan of block ``block`` in epoch ``epoch``.

    ``cuts`` is empty except in a block in which a phase ended. There it holds (phase index, rows read by that phase)
    for each phase that ended in the block, in order; ``row`` then counts in the plan of what they left.
    """

    epoch: int = 0
    block: int = 0
    row: int = 0
    cuts: tuple[tuple[int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain integers and lists; ``from_json`` gives the same cursor back."""
        return {"epoch": self.epoch, "block": self.block, "row": self.row, "cuts": [list(cut) for cut in self.cuts]}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The cursor that ``to_json`` wrote. Raises ValueError for anything else."""
        try:
            cuts = tuple((_count(phase), _count(rows)) for phase, rows in state["cuts"])
            return cls(_count(state["epoch"]), _count(state["block"]), _count(state["row"]), cuts)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a data position: {state!r}") from error


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("not a count")
    return value


def switch_phase(cursor: Cursor, old_phase_index: int) -> Cursor:
    """The cursor with which the next phase continues exactly where phase ``old_phase_index`` stopped. The rows that the
    old phase read of the current block become a cut, unless there are none."""
    if cursor.row == 0:
        return cursor
    return replace(cursor, row=0, cuts=(*cursor.cuts, (old_phase_index, cursor.row)))
