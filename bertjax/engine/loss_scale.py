"""Dynamic loss scaling for float16 (Micikevicius et al. 2018, section 3.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

FIRST_SCALE = 2.0**15
GROW_AFTER = 2000  # steps without an overflow before the scale is doubled
LARGEST_SCALE = 2.0**24


@struct.dataclass
class LossScale:
    """scale: float32 scalar the loss is multiplied by. good_steps: int32, steps since it last changed."""

    scale: jax.Array
    good_steps: jax.Array


def initial_loss_scale(precision: str) -> LossScale:
    """Where the scale begins: high for float16, at 1 for the other precisions, which do not move it."""
    first = FIRST_SCALE if precision == "float16" else 1.0
    return LossScale(jnp.asarray(first, jnp.float32), jnp.zeros([], jnp.int32))


def adjusted(loss_scale: LossScale, finite: jax.Array) -> LossScale:
    """Halved after an overflow, doubled after ``GROW_AFTER`` good steps in a row."""
    good = jnp.where(finite, loss_scale.good_steps + 1, 0)
    grow = good >= GROW_AFTER
    scale = jnp.where(finite, loss_scale.scale, jnp.maximum(loss_scale.scale / 2.0, 1.0))
    scale = jnp.where(grow, jnp.minimum(scale * 2.0, LARGEST_SCALE), scale)
    return LossScale(scale, jnp.where(grow, 0, good))


def unchanged(loss_scale: LossScale, finite: jax.Array) -> LossScale:
    """For the precisions that need no scaling."""
    del finite
    return loss_scale


ADJUSTMENTS = {"float32": unchanged, "bfloat16": unchanged, "float16": adjusted}
