"""The guard: keeps the batches of bad steps, and rolls the run back after too many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bertjax import unfinished
from bertjax.config import GuardConfig

FOLDER = "bad_batches"
# Files kept of bad batches; a run that goes wrong for good does not fill the disk.
MOST_FILES = 20
# Metrics are read a step late, so the batch of the step before is still wanted.
REMEMBERED = 2


class Rollback(Exception):
    """The run has to go back to its last checkpoint; the message says why."""


class Guard:
    """Takes every step's batch, and a step later its metrics. ``say`` takes lines, ``note`` rows for the log."""

    def __init__(
        self,
        config: GuardConfig,
        workdir: Path,
        process: int,
        say: Callable[[str], None],
        note: Callable[[dict[str, Any]], None],
    ):
        self._config, self._folder, self._process, self._say, self._note = config, workdir / FOLDER, process, say, note
        self._batches: deque[tuple[int, dict[str, np.ndarray]]] = deque(maxlen=REMEMBERED)

    def remember(self, step: int, batch: dict[str, np.ndarray]) -> None:
        """This process's rows of the batch of update ``step``."""
        self._batches.append((step, batch))

    def judge(self, step: int, values: dict[str, float]) -> None:
        """Deals with the metrics of update ``step``. Raises Rollback if the run must roll back."""
        if values["apply_update"]:
            if values["mean_loss"] > values["lowest_mean_loss"] + self._config.loss_rise:
                raise Rollback(
                    f"the running mean of the loss has risen from {values['lowest_mean_loss']:.3f} to "
                    f"{values['mean_loss']:.3f} at step {step}"
                )
            return
        if values["loss_scale_overflow"]:  # only lowers the loss scale
            return
        numbers = f"loss {values['loss']:.4g}, gradient norm {values['grad_norm']:.4g}"
        kept = self._keep(step)
        self._note({"kind": "event", "event": "skipped", "step": step, "batch": kept})
        self._say(
            f"step {step} was skipped ({numbers}); nothing was changed by it" + f", its batch is {kept}" * bool(kept)
        )
        if values["bad_in_a_row"] >= self._config.bad_steps:
            raise Rollback(
                f"{values['bad_in_a_row']:.0f} steps in a row were bad, the last of them step {step} ({numbers})"
            )

    def _keep(self, step: int) -> str | None:
        batch = next((batch for number, batch in self._batches if number == step), None)
        suffix = f".process-{self._process}" if self._process else ""
        path = self._folder / f"step-{step}{suffix}.npz"
        try:
            self._folder.mkdir(exist_ok=True)
            if batch is None or path.exists() or len(list(self._folder.iterdir())) >= MOST_FILES:
                return str(path) if path.exists() else None
            with unfinished.whole_file(path) as file:
                arrays: dict[str, Any] = dict(batch)
                np.savez(file, **arrays)
        except OSError as error:  # of no use to the run itself
            self._say(f"the batch of step {step} could not be kept: {error}")
            return None
        return str(path)
