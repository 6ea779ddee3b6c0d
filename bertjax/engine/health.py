"""Which steps are bad: judged inside the step, against running means that are part of the training state."""

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
    """Float32 scalars ``loss`` and ``grad_norm``: running means over the good steps. ``lowest``: the lowest that
    ``loss`` was since it is trusted. int32 ``good``: good steps so far; ``bad_in_a_row``: bad ones just now."""

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
    health: Health, loss: jax.Array, grad_norm: jax.Array, finite: jax.Array, absorbed: jax.Array, guard: GuardConfig
) -> tuple[jax.Array, Health]:
    """(whether the step is good, the health after it). ``absorbed``: not finite, but the loss scale deals with it.

    Bad is a step that is not finite, or, once the means are trusted, one whose gradient norm is over
    ``guard.gradient_factor`` times its mean, or whose loss is more than ``guard.loss_rise`` nats over its mean.
    """
    trusted = health.good >= TRUSTED_AFTER
    explodes = (grad_norm > guard.gradient_factor * health.grad_norm) | (loss > health.loss + guard.loss_rise)
    good = finite & jnp.isfinite(loss) & ~(trusted & explodes)
    # A plain mean at first, so that the first step does not weigh more than the others.
    share = jnp.maximum(SHARE, 1.0 / (health.good + 1))
    mean = lambda old, new: jnp.where(good, old + share * (jnp.where(good, new, 0.0) - old), old)
    loss_mean = mean(health.loss, loss)
    lowest = jnp.where(trusted & good, jnp.minimum(health.lowest, loss_mean), health.lowest)
    return good, Health(
        loss=loss_mean,
        grad_norm=mean(health.grad_norm, grad_norm),
        lowest=lowest,
        good=health.good + good,
        bad_in_a_row=jnp.where(good, 0, health.bad_in_a_row + ~absorbed),
    )
