"""Which steps are bad: decided inside the step, against running means that are part of the training state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from bertjax.config import GuardConfig

# Share of a step in the running means, and good steps after which they are trusted.
SHARE = 0.02
TRUSTED_AFTER = 100


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
