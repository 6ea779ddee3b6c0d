"""The training state: made, sharded and described in one place; and the dynamic loss scaling for float16
(Micikevicius et al. 2018, section 3.2), which is part of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh

from bertjax.engine.health import Health, initial_health
from bertjax.parallel.sharding import shardings_of, tree_shardings

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


# By precision; only float16 needs scaling.
ADJUSTMENTS: dict[str, Callable[[LossScale, jax.Array], LossScale]] = {
    "float32": lambda loss_scale, finite: loss_scale,
    "bfloat16": lambda loss_scale, finite: loss_scale,
    "float16": adjusted,
}


@struct.dataclass
class TrainState:
    """step: int32 scalar, completed updates over all phases. params: nested dict of float32 arrays."""

    step: jax.Array
    params: Any
    opt_state: Any
    loss_scale: LossScale
    health: Health


def _new_state(make_params: Callable[[], Any], optimizer: optax.GradientTransformation, precision: str) -> TrainState:
    params = make_params()
    return TrainState(
        step=jnp.zeros([], jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        loss_scale=initial_loss_scale(precision),
        health=initial_health(),
    )


def sharded_shapes(
    make_params, optimizer: optax.GradientTransformation, precision: str, axes: dict[str, Any], mesh: Mesh
) -> TrainState:
    """ShapeDtypeStructs of a state, laid out as the logical ``axes`` of the parameters want it."""
    shapes = jax.eval_shape(partial(_new_state, make_params, optimizer, precision))
    shardings = tree_shardings(shapes, axes, mesh)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


def initial_state(
    make_params, optimizer: optax.GradientTransformation, precision: str, axes: dict[str, Any], mesh: Mesh
) -> TrainState:
    """A new state, every array made where it belongs: without out_shardings jit would replicate the moments."""
    shapes = sharded_shapes(make_params, optimizer, precision, axes, mesh)
    return jax.jit(partial(_new_state, make_params, optimizer, precision), out_shardings=shardings_of(shapes))()


def with_params(state: TrainState, params: Any) -> TrainState:
    """The state with other parameters: host arrays of the same shapes, laid out as the old ones are."""

    def placed(new: np.ndarray, old: jax.Array) -> jax.Array:
        if new.shape != old.shape:
            raise ValueError(f"a parameter of shape {new.shape} cannot take the place of one of {old.shape}")
        return jax.make_array_from_callback(old.shape, old.sharding, lambda index: new[index].astype(old.dtype))

    placed_params = jax.tree.map(placed, jax.tree.map(np.asarray, params), state.params)
    return dataclasses.replace(state, params=placed_params)
