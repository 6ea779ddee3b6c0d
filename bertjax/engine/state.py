"""The training state: made, sharded and described in one place; and the dynamic loss scaling for float16
(Micikevicius et al. 2018, section 3.2), which is part of it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from bertjax.engine.guard import Health

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


@struct.dataclass
class TrainState:
    """step: int32 scalar, completed updates over all phases. params: nested dict of float32 arrays. scaling: in 8 bits
    the histories of the largest values (``model.fp8``); else an empty dict, which no checkpoint holds."""

    step: jax.Array
    params: Any
    opt_state: Any
    loss_scale: LossScale
    health: Health
    scaling: Any = struct.field(default_factory=dict)


def with_params(state: TrainState, params: Any) -> TrainState:
    """The state with other parameters: host arrays of the same shapes, laid out as the old ones are."""

    def placed(new: np.ndarray, old: jax.Array) -> jax.Array:
        if new.shape != old.shape:
            raise ValueError(f"a parameter of shape {new.shape} cannot take the place of one of {old.shape}")
        return jax.make_array_from_callback(old.shape, old.sharding, lambda index: new[index].astype(old.dtype))

    placed_params = jax.tree.map(placed, jax.tree.map(np.asarray, params), state.params)
    return dataclasses.replace(state, params=placed_params)
