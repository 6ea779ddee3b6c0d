"""One answer of all processes to a question that each may answer otherwise, without waiting for one another."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def any_of(mesh: Mesh) -> Callable[[bool], bool]:
    """``agree(asked)``, to be called by every process in every step: whether any of them has asked.

    Among several processes it is the answer to the call before: what was asked then is on the devices by now, behind
    the step that went before it, so nobody waits, and all act on it at the same step.
    """
    if jax.process_count() == 1:
        return lambda asked: asked
    divided, everywhere = (NamedSharding(mesh, spec) for spec in (PartitionSpec(mesh.axis_names), PartitionSpec()))
    maximum = jax.jit(jnp.max, out_shardings=everywhere)
    pending: list[jax.Array] = []

    def agree(asked: bool) -> bool:
        votes = jax.make_array_from_callback((mesh.size,), divided, lambda index: np.array([asked], np.int32))
        pending.append(maximum(votes))
        return len(pending) > 1 and bool(pending.pop(0))

    return agree


def all_of(mesh: Mesh) -> Callable[[bool], bool]:
    """``agree(fine)``: whether all processes say so, once all have come here."""
    if jax.process_count() == 1:
        return lambda fine: fine
    divided, everywhere = (NamedSharding(mesh, spec) for spec in (PartitionSpec(mesh.axis_names), PartitionSpec()))
    minimum = jax.jit(jnp.min, out_shardings=everywhere)

    def agree(fine: bool) -> bool:
        votes = jax.make_array_from_callback((mesh.size,), divided, lambda index: np.array([fine], np.int32))
        return bool(minimum(votes))

    return agree
