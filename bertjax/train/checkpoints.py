"""Checkpoints of a run: the training state and the position in the data, kept by Orbax under workdir/checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from bertjax.train.state import TrainState


class CheckpointError(Exception):
    """A checkpoint that could not be written or read."""


class Checkpoints:
    """Saves in the background; an error of one save surfaces at the next call.

    A step holds two items: ``state``, a pytree of arrays, and ``position``, plain JSON.
    """

    def __init__(self, directory: Path, keep: int):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def latest(self) -> int | None:
        """The newest step there is, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, position: dict[str, Any]) -> None:
        """Begins to save; the arrays are copied before it returns, so the state may be donated to the next step."""
        if step in self._manager.all_steps():
            return
        self._manager.check_for_errors()
        items = ocp.args.Composite(state=ocp.args.StandardSave(_tree(state)), position=ocp.args.JsonSave(position))
        if not self._manager.save(step, args=items, force=True):
            raise CheckpointError(f"checkpoint {step} was not written")

    def restore(self, step: int, shapes: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state laid out as ``shapes`` (ShapeDtypeStructs with shardings), and the position."""
        items = ocp.args.Composite(state=ocp.args.StandardRestore(_tree(shapes)), position=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        return TrainState(**restored["state"]), restored["position"]

    def wait(self) -> None:
        """Returns when everything is on disk; raises where a save failed."""
        self._manager.wait_until_finished()
        self._manager.check_for_errors()

    def close(self) -> None:
        self._manager.close()


def _tree(state: TrainState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in ("step", "params", "opt_state", "loss_scale")}
