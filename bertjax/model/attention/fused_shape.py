"""What the fused attention kernels of all backends share: their shapes, inputs and masked products."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

MASKED_SCORE = -1e30
# A row's maximum is at least this, so that exp(masked score - maximum) is 0 in a row without a single allowed key.
LEAST_MAXIMUM = -5e29


class Shape(NamedTuple):
    """What a kernel is compiled for. ``queries`` and ``keys`` number the elements of the dropout mask: not padded."""

    queries: int
    keys: int
    heads: int
    head_size: int
    segments: bool
    window: int | None
    rate: float  # of dropout; 0: none
    backend: str  # where it runs; on a "cpu" in the interpreter of Pallas

    @property
    def interpret(self) -> bool:
        return self.backend == "cpu"


class Inputs(NamedTuple):
    """What both passes take; all but the scalars are padded to whole lanes along the row.

    keys: two uint32 [B], of the dropout. first_head: int32 [1]. ids: int32 [B, 1, Sq] and [B, 1, S].
    query [B, Sq, N D]; key, value [B, S, N D].
    """

    keys: tuple[jax.Array, jax.Array]
    first_head: jax.Array
    ids: tuple[jax.Array, jax.Array]
    query: jax.Array
    key: jax.Array
    value: jax.Array


def product(a: jax.Array, b: jax.Array, over: tuple[int, int]) -> jax.Array:
    """A product with float32 result; axis ``over[0]`` of a meets ``over[1]`` of b."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    numbers = (((over[0],), (over[1],)), ((), ()))
    return jax.lax.dot_general(a, b, numbers, precision=precision, preferred_element_type=jnp.float32)


def block_ranges(ids: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The least and the greatest id of every block, int32 [B, blocks]."""
    blocks = ids.reshape(ids.shape[0], -1, size)
    return blocks.min(axis=2), blocks.max(axis=2)
