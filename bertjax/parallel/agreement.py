"""All processes agree on one yes or no, without a barrier."""

from collections import deque
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def _vote(mesh: Mesh, reduce: Callable[[jax.Array], jax.Array]) -> Callable[[bool], jax.Array]:
    """``vote(mine)``, called by all processes together, starts ``reduce`` over the votes of all devices."""
    divided, everywhere = (NamedSharding(mesh, spec) for spec in (PartitionSpec(mesh.axis_names), PartitionSpec()))
    reduced = jax.jit(reduce, out_shardings=everywhere)
    votes = lambda mine: jax.make_array_from_callback((mesh.size,), divided, lambda index: np.array([mine], np.int32))
    return lambda mine: reduced(votes(mine))


def any_of(mesh: Mesh, asks: Callable[[int], bool], ahead: int = 1) -> Callable[[int], bool]:
    """``agree(step)``, to be called by every process after every step: whether ``asks`` says yes in any of them.

    Among several processes it answers the call ``ahead`` steps before: that vote is on the devices, behind its step, so
    nobody waits for more than that step, and all act after the same step. Most of a step passes in here: a process asks
    only after the earlier answer has come, so a signal during the wait reaches the others at once, not a step later.
    """
    if jax.process_count() == 1:
        return asks
    vote = _vote(mesh, jnp.max)
    pending: deque[jax.Array] = deque()

    def agree(step: int) -> bool:
        answer = len(pending) == ahead and bool(pending.popleft())
        pending.append(vote(asks(step)))
        return answer

    return agree


def all_of(mesh: Mesh) -> Callable[[bool], bool]:
    """``agree(fine)``: whether all processes say so, once all have come here."""
    if jax.process_count() == 1:
        return lambda fine: fine
    vote = _vote(mesh, jnp.min)
    return lambda fine: bool(vote(fine))
