"""Where arrays live: from the logical axes of a parameter to its PartitionSpec.

The paths of the optimizer's moments end like those of the parameters they belong to, and so are they divided.
"""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.parallel.mesh import batch_shards

Axes = str | tuple[str, ...] | None

# Logical axis -> the mesh axes that may divide it, of which those are used that divide it into the most parts. A mesh
# axis divides one dimension of an array; the logical axes choose in the order of this table.
RULES: dict[str, tuple[str, ...]] = {
    "hidden": ("fsdp",),
    "heads": ("tensor", "fsdp"),
    "mlp": ("tensor", "fsdp"),
    "vocab": ("tensor", "fsdp"),
    "layers": (),
    "positions": (),
    "types": (),
    "labels": ("fsdp",),
}

BATCH_SPEC = PartitionSpec(("data", "fsdp"))
HEADS_SPEC = PartitionSpec(*BATCH_SPEC, None, "tensor", None)  # [B, S, N, D]


def path_name(path: tuple[Any, ...]) -> str:
    """A key path of jax.tree_util as "a/b/c"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def spec_for(axes: tuple[str, ...], shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """The spec of an array with these logical axes. Raises ValueError for an axis without a rule."""
    if unknown := set(axes) - set(RULES):
        raise ValueError(f"no sharding rule for the logical axis {unknown.pop()!r}; there are {', '.join(RULES)}")
    found: list[Axes] = [None] * len(axes)
    taken: set[str] = set()
    for place in sorted(range(len(axes)), key=lambda place: list(RULES).index(axes[place])):
        wanted = RULES[axes[place]]
        found[place] = _that_divide(tuple(axis for axis in wanted if axis not in taken), shape[place], mesh)
        taken.update(wanted)
    return PartitionSpec(*found)


def _that_divide(axes: tuple[str, ...], size: int, mesh: Mesh) -> Axes:
    """Those of the axes that together divide ``size`` into the most parts."""
    choices = [kept for n in range(len(axes), -1, -1) for kept in itertools.combinations(axes, n)]
    parts = lambda kept: math.prod(mesh.shape[axis] for axis in kept)
    best = max((kept for kept in choices if size % parts(kept) == 0), key=parts)
    return best if len(best) > 1 else best[0] if best else None


def tree_shardings(tree: Any, axes: dict[str, Any], mesh: Mesh) -> Any:
    """NamedShardings of a pytree of arrays or ShapeDtypeStructs: parameters, or anything that holds arrays under
    paths that end like theirs. axes: nested dict of the parameters' logical axes. Other arrays are replicated."""
    by_path: dict[str, Any] = flatten_dict(axes, sep="/")

    def sharding(path: tuple[Any, ...], x: Any) -> NamedSharding:
        parts = path_name(path).split("/")
        endings = ("/".join(parts[start:]) for start in range(len(parts)))
        named = next((by_path[ending] for ending in endings if ending in by_path), ())
        fits = len(named) == len(x.shape)  # an optimizer may keep sums over some dimensions
        return NamedSharding(mesh, spec_for(named, x.shape, mesh) if fits else PartitionSpec())

    return jax.tree_util.tree_map_with_path(sharding, tree)


def shardings_of(tree: Any) -> Any:
    """The sharding of every array (or ShapeDtypeStruct) of a pytree."""
    return jax.tree.map(lambda x: x.sharding, tree)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows divided over the data and fsdp axes."""
    return NamedSharding(mesh, BATCH_SPEC)


def _own_shards(mesh: Mesh) -> list[int]:
    """Which parts of a batch, of ``batch_shards``, this process's devices hold, ascending; with a tensor axis over
    several processes these hold the same ones."""
    places = batch_sharding(mesh).addressable_devices_indices_map((batch_shards(mesh),)).values()
    return sorted({index[0].start or 0 for index in places if index})


def process_rows(batch_size: int, mesh: Mesh) -> np.ndarray:
    """Numbers of the rows of every global batch that this process has to make, ascending."""
    return np.arange(batch_size).reshape(batch_shards(mesh), -1)[_own_shards(mesh)].reshape(-1)


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch (``process_rows``) as global arrays, divided over the mesh."""
    sharding, own, shards = batch_sharding(mesh), _own_shards(mesh), batch_shards(mesh)

    def placed(array: np.ndarray) -> jax.Array:
        share = len(array) // len(own)
        first = lambda index: own.index((index[0].start or 0) // share) * share
        local = lambda index: array[first(index) : first(index) + share]
        return jax.make_array_from_callback((share * shards, *array.shape[1:]), sharding, local)

    return {name: placed(array) for name, array in batch.items()}


def on_every_device(values: Iterable[np.generic], mesh: Mesh) -> tuple[jax.Array, ...]:
    """Numbers that are the same in all processes, put on all devices: once, where every call would do it again."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    return tuple(jax.make_array_from_callback((), everywhere, lambda _, x=x: np.asarray(x)) for x in values)


def own_rows(array: jax.Array) -> np.ndarray:
    """This process's rows of an array that ``to_global`` made, on the host."""
    parts = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([parts[start] for start in sorted(parts)])


def gathered(tree: Any, mesh: Mesh) -> Any:
    """A tree of global arrays as host arrays, whole, in every process; one array at a time on the devices."""
    replicate = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))
    return jax.tree.map(lambda x: np.asarray(x if x.is_fully_addressable else replicate(x)), tree)


def axes_left(mesh: Mesh) -> tuple[Any, frozenset[str]]:
    """Where a program is being traced: (the mesh to name shardings on, those of its axes that the compiler divides
    arrays over). Inside a ``shard_map`` each device has its part along the other axes already."""
    here = jax.sharding.get_abstract_mesh()
    taken = frozenset(here.manual_axes)
    return (here if taken else mesh), frozenset(mesh.axis_names) - taken


def spec_left(spec: PartitionSpec, left: frozenset[str]) -> PartitionSpec:
    """A spec without the mesh axes that are not ``left``."""
    named = ([axis for axis in ([axes] if isinstance(axes, str) else axes or ()) if axis in left] for axes in spec)
    return PartitionSpec(*(tuple(axes) if axes else None for axes in named))


def pinned(mesh: Mesh, spec: PartitionSpec):
    """``pin(x)``: x, laid out as ``spec`` says; where a device has its part along some axes, along those left."""

    def pin(x: jax.Array) -> jax.Array:
        here, left = axes_left(mesh)
        return jax.lax.with_sharding_constraint(x, NamedSharding(here, spec_left(spec, left))) if left else x

    return pin


def divided_attention(mesh: Mesh):
    """``divided(attend)``: an attention function that each device calls on its own rows and heads.

    For kernels that the compiler cannot divide. attend: as in ``bertjax.model.attention``, on [B, S, N, D].
    """
    if mesh.size == 1:
        return lambda attend: attend

    def divided(attend):
        def on_mesh(query, key, value, segments, window, dropout):
            here, left = axes_left(mesh)
            if not left:
                return attend(query, key, value, segments, window, dropout)

            def on_device(query, key, value, segments, keys):
                first_head = jax.lax.axis_index("tensor") * query.shape[2]
                own = dropout and dropout._replace(keys=keys, first_head=first_head)
                return attend(query, key, value, segments, window, own)

            of_heads, of_rows = (spec_left(spec, left) for spec in (HEADS_SPEC, BATCH_SPEC))
            run = jax.shard_map(
                on_device,
                mesh=here,
                axis_names=left,
                in_specs=(of_heads, of_heads, of_heads, of_rows, of_rows),
                out_specs=of_heads,
                check_vma=False,
            )
            return run(query, key, value, segments, dropout and dropout.keys)

        return on_mesh

    return divided


def divided_lookup(mesh: Mesh):
    """``lookup(table [V, H], ids int [B, S]) -> [B, S, H]`` for a table divided over tensor (V) and fsdp (H).

    The ids travel to the table, a few kilobytes: each device looks up what its part of the table holds, for the rows
    of all devices that share the columns among them, and every row's columns come back to it. Left to itself, the
    compiler gathers the activations of the whole batch on every device as soon as data and fsdp are both above 1.
    """
    if mesh.shape["fsdp"] == mesh.shape["tensor"] == 1:
        return lambda table, ids: jnp.take(table, ids, axis=0)

    def on_device(table: jax.Array, ids: jax.Array) -> jax.Array:
        ids = jax.lax.all_gather(ids, "fsdp", axis=0, tiled=True)
        inside = ids - jax.lax.axis_index("tensor") * table.shape[0]
        here = (inside >= 0) & (inside < table.shape[0])
        columns = jnp.take(table, jnp.where(here, inside, 0), axis=0)
        columns = jax.lax.psum(jnp.where(here[..., None], columns, 0.0), "tensor")
        return jax.lax.all_to_all(columns, "fsdp", split_axis=0, concat_axis=2, tiled=True)

    def lookup(table: jax.Array, ids: jax.Array) -> jax.Array:
        here, left = axes_left(mesh)
        of_rows = spec_left(BATCH_SPEC, left)
        return jax.shard_map(
            on_device,
            mesh=here,
            axis_names=left,
            in_specs=(spec_left(PartitionSpec("tensor", "fsdp"), left), PartitionSpec(*of_rows, None)),
            out_specs=PartitionSpec(*of_rows, None, None),
        )(table, ids)

    return lookup
