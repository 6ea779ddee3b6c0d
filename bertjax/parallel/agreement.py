"""One answer of all processes to a question that each may answer otherwise, without waiting for one another."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def any_of(mesh: Mesh, asks: Callable[[int], bool]) -> Callable[[int], bool]:
    """``agree(step)``, to be called by every process after every step: whether ``asks`` says yes in any of them.

    Among several processes it is the answer to the call before: what was asked then is on the devices by now, behind
    the step that went before it, so nobody waits for more than that step, and all act on it after the same step. Most
    of a step's time passes in here: a process asks only once the earlier answer has come, so that what happened
    meanwhile, as a signal does, is told to the others right away and not a step later.
    """
    if jax.process_count() == 1:
        return asks
    divided, everywhere = (NamedSharding(mesh, spec) for spec in (PartitionSpec(mesh.axis_names), PartitionSpec()))
    maximum = jax.jit(jnp.max, out_shardings=everywhere)
    pending: list[jax.Array] = []

    def agree(step: int) -> bool:
        answer = bool(pending) and bool(pending.pop())
        asked = asks(step)
        votes = jax.make_array_from_callback((mesh.size,), divided, lambda index: np.array([asked], np.int32))
        pending.append(maximum(votes))
        return answer

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
