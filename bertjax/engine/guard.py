"""Bad steps: found inside the step, against running means that are part of the training state; the guard keeps their
batches, and rolls the run back after too many."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from bertjax import unfinished
from bertjax.config import GuardConfig
from bertjax.parallel.sharding import own_rows

# Weight of a new step in the running means, and good steps after which they are trusted.
SHARE = 0.02
TRUSTED_AFTER = 100
FOLDER = "bad_batches"
# Files kept of bad batches; a run that goes wrong for good does not fill the disk.
MOST_FILES = 20


@struct.dataclass
class Health:
    """Float32 scalars ``loss`` and ``grad_norm``: running means over the good steps; ``lowest``: the lowest mean loss
    since the means are trusted. int32 ``good``: good steps so far; ``bad_in_a_row``: bad steps since the last good one.
    """

    loss: jax.Array
    grad_norm: jax.Array
    lowest: jax.Array
    good: jax.Array
    bad_in_a_row: jax.Array


def initial_health() -> Health:
    zero, none = jnp.zeros([], jnp.float32), jnp.zeros([], jnp.int32)
    # No infinity: a checkpoint holds finite numbers only.
    return Health(zero, zero, jnp.asarray(jnp.finfo(jnp.float32).max, jnp.float32), none, none)


def judged(
    health: Health,
    loss: jax.Array,
    grad_norm: jax.Array,
    finite: jax.Array,
    loss_scale_overflow: jax.Array,
    guard: GuardConfig,
) -> tuple[jax.Array, Health]:
    """(whether to apply the update, the health after it).

    finite: whether the gradients are. loss_scale_overflow: they are not, but a lower loss scale deals with that. A step
    is bad if it is not finite or, once the running means are trusted, if its gradient norm is over
    ``guard.gradient_factor`` times its mean or its loss more than ``guard.loss_rise`` nats over its mean.
    """
    trusted = health.good >= TRUSTED_AFTER
    explodes = (grad_norm > guard.gradient_factor * health.grad_norm) | (loss > health.loss + guard.loss_rise)
    apply_update = finite & jnp.isfinite(loss) & ~(trusted & explodes)
    # A plain mean at first, so that the first step does not weigh more than the others.
    share = jnp.maximum(SHARE, 1.0 / (health.good + 1))
    mean = lambda old, new: jnp.where(apply_update, old + share * (jnp.where(apply_update, new, 0.0) - old), old)
    loss_mean = mean(health.loss, loss)
    lowest = jnp.where(trusted & apply_update, jnp.minimum(health.lowest, loss_mean), health.lowest)
    return apply_update, Health(
        loss=loss_mean,
        grad_norm=mean(health.grad_norm, grad_norm),
        lowest=lowest,
        good=health.good + apply_update,
        bad_in_a_row=jnp.where(apply_update, 0, health.bad_in_a_row + ~loss_scale_overflow),
    )


class Rollback(Exception):
    """The run has to go back to its last checkpoint; the message says why."""


@dataclass
class Guard:
    """Takes every step's batch, and ``ahead`` steps later its metrics. ``say`` takes lines, ``note`` log rows."""

    config: GuardConfig
    workdir: Path
    process: int
    say: Callable[[str], None]
    note: Callable[[dict[str, Any]], None]
    ahead: int = 1
    _batches: deque[tuple[int, dict[str, jax.Array]]] = field(init=False)

    def __post_init__(self) -> None:
        self._batches = deque(maxlen=self.ahead + 1)

    def remember(self, step: int, batch: dict[str, jax.Array]) -> None:
        """The batch of update ``step``."""
        self._batches.append((step, batch))

    def judge(self, step: int, values: dict[str, float]) -> None:
        """Deals with the metrics of update ``step``. Raises Rollback if the run must roll back."""
        if values["apply_update"]:
            if values["mean_loss"] > values["lowest_mean_loss"] + self.config.loss_rise:
                raise Rollback(
                    f"the running mean of the loss has risen from {values['lowest_mean_loss']:.3f} to "
                    f"{values['mean_loss']:.3f} at step {step}"
                )
            return
        if values["loss_scale_overflow"]:  # only lowers the loss scale
            return
        numbers = f"loss {values['loss']:.4g}, gradient norm {values['grad_norm']:.4g}"
        kept = self._keep(step)
        self.note({"kind": "event", "event": "skipped", "step": step, "batch": kept})
        self.say(
            f"step {step} was skipped ({numbers}); nothing was changed by it" + f", its batch is {kept}" * bool(kept)
        )
        if values["bad_in_a_row"] >= self.config.bad_steps:
            raise Rollback(
                f"{values['bad_in_a_row']:.0f} steps in a row were bad, the last of them step {step} ({numbers})"
            )

    def _keep(self, step: int) -> str | None:
        batch = next((batch for number, batch in self._batches if number == step), None)
        suffix = f".process-{self.process}" if self.process else ""
        folder = self.workdir / FOLDER
        path = folder / f"step-{step}{suffix}.npz"
        try:
            folder.mkdir(exist_ok=True)
            if batch is None or path.exists() or len(list(folder.iterdir())) >= MOST_FILES:
                return str(path) if path.exists() else None
            with unfinished.whole_file(path) as file:
                arrays: dict[str, Any] = {name: own_rows(rows) for name, rows in batch.items()}
                np.savez(file, **arrays)
        except OSError as error:  # of no use to the run itself
            self.say(f"the batch of step {step} could not be kept: {error}")
            return None
        return str(path)
