"""Dropout whose masks are a function of (seed, step, site, global row, element).

A counter hash instead of split keys: the mask of a row does not depend on how the batch is divided over
devices, processes or accumulation steps, and it fuses into the work around it. The backward pass computes
the mask again from the counters, so nothing of a mask is kept.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class DropoutSeed:
    """Determines the dropout masks of one forward pass. seed, step: uint32 scalars. rows: uint32 [B], number of each
    row in the step's global batch."""

    seed: jax.Array
    step: jax.Array
    rows: jax.Array


class Dropout(NamedTuple):
    """Dropout at one place of the model: its rate, and the keys of its masks, two uint32 [B].

    first_head: number of the first head where an attention kernel has only some of them.
    """

    rate: float
    keys: tuple[jax.Array, jax.Array]
    first_head: jax.Array | int = 0


def dropout_at(site: jax.Array | int, rate: float, seed: DropoutSeed | None) -> Dropout | None:
    """``site`` numbers the place in the model. None, no dropout, without a seed or at rate 0."""
    return None if seed is None or rate == 0.0 else Dropout(rate, _row_keys(seed, site))


def drop(x: jax.Array, dropout: Dropout | None) -> jax.Array:
    """Zeroes elements of x [B, ...] with probability ``rate`` and scales the others by 1 / (1 - rate)."""
    return x if dropout is None else _dropped(dropout.rate, x, *dropout.keys)


def _scramble(h: jax.Array) -> jax.Array:
    """The 32-bit finaliser of MurmurHash3 (public domain): each input bit flips each output bit with p near .5."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def _row_keys(seed: DropoutSeed, site: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Two uint32 [B] for every (seed, step, site, row)."""
    h = _scramble(seed.seed + jnp.uint32(0x9E3779B9))
    h = _scramble(h ^ seed.step)
    h = _scramble(h + jnp.asarray(site, jnp.uint32) * jnp.uint32(0x85EBCA77))
    first = _scramble(h + seed.rows * jnp.uint32(0x9E3779B1))
    return first, _scramble(first ^ jnp.uint32(0x27D4EB2F))


def _keep(shape: tuple[int, ...], rate: float, first: jax.Array, second: jax.Array) -> jax.Array:
    per_row = shape[1:]
    strides = [math.prod(per_row[axis:]) for axis in range(1, len(per_row) + 1)]
    element = sum(
        jax.lax.broadcasted_iota(jnp.uint32, (1, *per_row), axis) * jnp.uint32(stride)
        for axis, stride in enumerate(strides, start=1)
    )
    return kept(element, rate, *(k.reshape(-1, *[1] * len(per_row)) for k in (first, second)))


def kept(element: jax.Array, rate: float, first: jax.Array, second: jax.Array) -> jax.Array:
    """Whether the elements of these numbers (uint32) stay, in a row with these keys; kernels use it on their blocks."""
    # The second key enters between the rounds: with one alone, two rows' masks would be shifts of each other.
    h = element * jnp.uint32(0x9E3779B1) + first
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13) ^ second) * jnp.uint32(0xC2B2AE35)
    return (h ^ (h >> 16)) >= jnp.uint32(round(rate * 2**32))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _dropped(rate: float, x: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    scale = jnp.asarray(1.0 / (1.0 - rate), x.dtype)
    return jnp.where(_keep(x.shape, rate, first, second), x * scale, jnp.zeros((), x.dtype))


def _dropped_forward(rate, x, first, second):
    return _dropped(rate, x, first, second), (first, second)


def _dropped_backward(rate, keys, cotangent):
    # XLA for GPUs would see that the mask is the same, and keep it.
    first, second = jax.lax.platform_dependent(
        *keys, cuda=lambda *keys: jax.lax.optimization_barrier(keys), default=lambda *keys: keys
    )
    return _dropped(rate, cotangent, first, second), None, None


_dropped.defvjp(_dropped_forward, _dropped_backward)
