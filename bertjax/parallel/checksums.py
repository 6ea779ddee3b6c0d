"""A checksum of every array of a tree that does not depend on how the arrays are divided over devices."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.parallel.sharding import path_name

# Start, and multiplier of an element's number in its array: odd numbers without a pattern.
_START, _MULTIPLIER = 0x243F6A88, 0x9E3779B1
# Programs are compiled side by side, as a restart waits for all of them.
_COMPILING_THREADS = 8
# Elements hashed at once on the host: what is made of them stays in a core's cache.
_CHUNK = 1 << 16


class Checksums:
    """``checksums(tree) -> ({path: 16 hex digits}, whether all numbers are finite)``, for arrays on a mesh.

    Every element is hashed with its number in the whole array, and the hashes, and hashes of these, are added modulo
    2^32, so each device works on what it holds and the parts may be added in any order. The hash of an element is a
    bijection of its bits: no change of a single element goes unseen; of two or more, one in 2^64. All processes must
    call it together.
    """

    def __init__(self, mesh: Mesh):
        self._mesh, self._each = mesh, PartitionSpec(mesh.axis_names)
        self._added = jax.jit(_added, out_shardings=NamedSharding(mesh, PartitionSpec()))
        # Arrays of one shape, as parameters and their moments, share a program.
        self._programs: dict[Any, Any] = {}
        self._adders: dict[frozenset[str], Any] = {}
        self._preparing = threading.Thread()

    def prepare(self, shapes: Any) -> None:
        """Compiles in the background what a tree like this will need, so that the first call does not have to."""
        self._preparing = threading.Thread(target=self._compiled, args=[_named(shapes)])
        self._preparing.start()

    def _compiled(self, arrays: list[tuple[str, Any]]) -> None:
        one_each = {self._key(x): x for _, x in arrays}
        with ThreadPoolExecutor(_COMPILING_THREADS) as threads:
            list(threads.map(self._program, one_each.values()))
        each = NamedSharding(self._mesh, self._each)
        share = jax.ShapeDtypeStruct((self._mesh.size, 3), jnp.uint32, sharding=each)
        shares = {name: share for name, _ in arrays}
        self._adders[frozenset(shares)] = self._added.lower(shares).compile()

    def __call__(self, tree: Any) -> tuple[dict[str, str], bool]:
        if self._preparing.ident:
            self._preparing.join()
        # Each device's part of every sum, and one program in which the devices speak to each other: of several at
        # once, two processes might run them in different orders, and wait for each other for ever.
        shares = {name: self._program(x)(x) for name, x in _named(tree)}
        totals, nonfinite = self._adders.get(frozenset(shares), self._added)(shares)
        return {name: f"{high:08x}{low:08x}" for name, (high, low) in jax.device_get(totals).items()}, not nonfinite

    def _program(self, x: Any) -> Any:
        """The compiled program: an array like ``x`` -> uint32 [devices, 3], ``_share`` of each device."""
        key = self._key(x)
        if key not in self._programs:
            mesh, spec = self._mesh, key[2]
            of_part = partial(_share, spec=spec, mesh=mesh)
            share = jax.shard_map(of_part, mesh=mesh, in_specs=spec, out_specs=self._each, check_vma=False)
            placed = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))
            self._programs[key] = jax.jit(share).lower(placed).compile()
        return self._programs[key]

    def _key(self, x: Any) -> tuple[tuple[int, ...], Any, PartitionSpec]:
        """Shape, dtype, and how the mesh divides it; trailing undivided dimensions are left out, as jax may do."""
        spec = x.sharding.spec if isinstance(x.sharding, NamedSharding) else PartitionSpec()
        return x.shape, x.dtype, PartitionSpec(*spec[: max((n + 1 for n, axes in enumerate(spec) if axes), default=0)])


def host_checksum(array: np.ndarray) -> str:
    """What ``Checksums`` gives for the same array on a mesh, computed with NumPy: no device is touched."""
    array = np.ascontiguousarray(array)
    unsigned = {1: np.uint8, 2: np.uint16, 4: np.uint32}[array.dtype.itemsize]
    bits = array.reshape(-1).view(unsigned)
    numbers = np.arange(min(_CHUNK, bits.size), dtype=np.uint32) * np.uint32(_MULTIPLIER)
    high_sum = low_sum = 0
    for begin in range(0, bits.size, _CHUNK):
        part = bits[begin : begin + _CHUNK].astype(np.uint32)
        part ^= numbers[: part.size] + np.uint32((begin * _MULTIPLIER + _START) % 2**32)
        high = _mixed(part)
        high_sum += int(high.sum(dtype=np.uint32))
        low_sum += int(_mixed(high + np.uint32(_START)).sum(dtype=np.uint32))
    return f"{high_sum % 2**32:08x}{low_sum % 2**32:08x}"


def _named(tree: Any) -> list[tuple[str, Any]]:
    return [(path_name(path), x) for path, x in jax.tree_util.tree_leaves_with_path(tree)]


def _added(shares: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
    """The sums of whole arrays, uint32 [2], and whether any number is not finite."""
    totals = {name: jnp.sum(share, axis=0, dtype=jnp.uint32) for name, share in shares.items()}
    nonfinite = jnp.any(jnp.asarray([total[2] > 0 for total in totals.values()]))
    return {name: total[:2] for name, total in totals.items()}, nonfinite


def _share(part: jax.Array, spec: PartitionSpec, mesh: Mesh) -> jax.Array:
    """uint32 [1, 3]: what this device, which holds ``part``, adds to the two sums; and 1 if a number is not finite."""
    # This device's number along some axes of the mesh, the first of them the slowest.
    place = lambda axes: jax.lax.axis_index(axes).astype(jnp.uint32)
    axes = [(axis,) if isinstance(axis, str) else axis or () for axis in spec]
    axes += [()] * (part.ndim - len(axes))
    first = [place(along) * size for along, size in zip(axes, part.shape, strict=True)]
    whole = [size * math.prod(mesh.shape[a] for a in along) for along, size in zip(axes, part.shape, strict=True)]
    dividing = {axis for along in axes for axis in along}
    # Of the devices that hold the same part, the first one counts.
    counts = place(tuple(axis for axis in mesh.axis_names if axis not in dividing)) == 0
    return jnp.where(counts, _sums(part, first, whole), jnp.uint32(0))[None]


def _sums(part: jax.Array, first: list[jax.Array], whole: list[int]) -> jax.Array:
    """``_share`` of a part that begins at the indices ``first`` in an array of shape ``whole``, uint32 [3]."""
    # The number of an element is that of its row plus that of its column, in the two-dimensional view of the part.
    rows, stride = jnp.zeros(part.shape[:-1], jnp.uint32), 1
    columns = jnp.full(part.shape[-1:], _START, jnp.uint32)
    for axis in reversed(range(part.ndim)):
        step = jnp.uint32(stride * _MULTIPLIER % 2**32)
        if axis == part.ndim - 1:
            columns += (jnp.arange(part.shape[axis], dtype=jnp.uint32) + first[axis]) * step
        else:
            rows += (jax.lax.broadcasted_iota(jnp.uint32, rows.shape, axis) + first[axis]) * step
        stride *= whole[axis]
    numbers, rows, columns = part.reshape(rows.size, -1), rows.reshape(-1, 1), columns.reshape(1, -1)
    high = _mixed(_bits(numbers) ^ (rows + columns))
    low = _mixed(high + jnp.uint32(_START))
    nonfinite = ~jnp.isfinite(numbers) if jnp.issubdtype(part.dtype, jnp.floating) else jnp.zeros(numbers.shape, bool)
    # One reduction of all three: on CPUs that is one pass and one kernel, where three sums are three passes and ten
    # kernels, and a restart waits until they are compiled.
    none = jnp.uint32(0)
    add = lambda a, b: (a[0] + b[0], a[1] + b[1], a[2] | b[2])
    return jnp.stack(jax.lax.reduce((high, low, nonfinite.astype(jnp.uint32)), (none, none, none), add, (0, 1)))


def _bits(x: jax.Array) -> jax.Array:
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
    return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)


def _mixed(x: Any) -> Any:
    """Bijective mixing of 32 bits, in jax or NumPy: lowbias32 (Wellons, "Prospecting for Hash Functions", 2018)."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
