"""A checksum of every array of a tree that does not depend on how the arrays are divided over devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.parallel.sharding import path_name

# Start, and multiplier of the element's number, of the two halves of a checksum: odd numbers without a pattern.
_HALVES = ((0x243F6A88, 0x9E3779B1), (0xB7E15162, 0x85EBCA77))


def make_checksums(mesh: Mesh) -> Callable[[Any], tuple[dict[str, str], bool]]:
    """``checksums(tree) -> ({path: 16 hex digits}, whether all numbers are finite)``, for arrays on the mesh.

    Every element is hashed with its number in the whole array, and the hashes are added modulo 2^32, so each device
    works on what it holds and the parts may be added in any order. The hash of an element is a bijection of its
    bits: no change of a single element goes unseen; of two or more, one in 2^64. All processes must call it together.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())
    compute = jax.jit(_checksums, out_shardings=everywhere)

    def checksums(tree: Any) -> tuple[dict[str, str], bool]:
        sums, finite = jax.device_get(compute(tree))
        return {name: f"{high:08x}{low:08x}" for name, (high, low) in sums.items()}, bool(finite)

    return checksums


def _checksums(tree: Any) -> tuple[dict[str, jax.Array], jax.Array]:
    named = {path_name(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}
    finite = [jnp.all(jnp.isfinite(x)) for x in named.values() if jnp.issubdtype(x.dtype, jnp.floating)]
    sums = {name: jnp.stack([_half(x, *half) for half in _HALVES]) for name, x in named.items()}
    return sums, jnp.all(jnp.asarray(finite))


def _half(x: jax.Array, start: int, multiplier: int) -> jax.Array:
    number = jnp.uint32(start)
    stride = 1
    for axis in reversed(range(x.ndim)):
        step = jnp.uint32(stride * multiplier % 2**32)
        number = number + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * step
        stride *= x.shape[axis]
    return jnp.sum(_mixed(_bits(x) ^ number), dtype=jnp.uint32)


def _bits(x: jax.Array) -> jax.Array:
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
    return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)


def _mixed(x: jax.Array) -> jax.Array:
    """Bijective mixing of 32 bits (Wellons, "Prospecting for Hash Functions", 2018: lowbias32)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
