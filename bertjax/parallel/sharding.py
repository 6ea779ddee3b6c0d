"""Where arrays live: one table from the path of an array in the training state to its PartitionSpec.

The paths of the optimizer's moments end like those of the parameters they belong to, so one table serves both.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.parallel.mesh import batch_shards

Axes = str | tuple[str, ...] | None

# First match wins; patterns are searched in "a/b/c" paths. Axes are given from the LAST dimension backwards, so that
# the stacked layer axis in front needs no entry of its own; of several axes for one dimension, those are used that
# divide it into the most parts. fsdp divides every array with a hidden dimension; tensor divides heads, the MLP and
# the vocabulary.
RULES: tuple[tuple[str, tuple[Axes, ...]], ...] = (
    (r"word_embeddings$", ("fsdp", "tensor")),
    (r"(position|token_type)_embeddings$", ("fsdp",)),
    (r"attention/(query|key|value)/kernel$", ("tensor", "fsdp")),
    (r"attention/(query|key|value)/bias$", (("tensor", "fsdp"),)),
    (r"attention/output/kernel$", ("fsdp", "tensor")),
    (r"mlp/intermediate/kernel$", ("tensor", "fsdp")),
    (r"mlp/intermediate/bias$", (("tensor", "fsdp"),)),
    (r"mlp/output/kernel$", ("fsdp", "tensor")),
    (r"(pooler/dense|mlm_head/transform|nsp_head/dense)/kernel$", (None, "fsdp")),
    (r"mlm_head/bias$", (("tensor", "fsdp"),)),
    # What is left: biases and layer norms over the hidden size.
    (r"/(bias|scale)$", ("fsdp",)),
)

BATCH_SPEC = PartitionSpec(("data", "fsdp"))


def path_name(path: tuple[Any, ...]) -> str:
    """A key path of jax.tree_util as "a/b/c"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def spec_for(name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """The spec of the array at path ``name``; an axis that does not divide its dimension is left out."""
    for pattern, backwards in RULES:
        if re.search(pattern, name) and len(shape) >= len(backwards):
            axes = [None] * (len(shape) - len(backwards)) + list(reversed(backwards))
            return PartitionSpec(*(_that_divide(a, size, mesh) for a, size in zip(axes, shape, strict=True)))
    return PartitionSpec()


def _that_divide(axes: Axes, size: int, mesh: Mesh) -> Axes:
    """Of the axes for a dimension, those that together divide it into the most parts."""
    named = (axes,) if isinstance(axes, str) else axes or ()
    choices = [kept for n in range(len(named), -1, -1) for kept in itertools.combinations(named, n)]
    parts = lambda kept: math.prod(mesh.shape[axis] for axis in kept)
    best = max((kept for kept in choices if size % parts(kept) == 0), key=parts)
    return best if len(best) > 1 else best[0] if best else None


def tree_shardings(tree: Any, mesh: Mesh) -> Any:
    """A NamedSharding for every array (or ShapeDtypeStruct) of a pytree, by its path."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: NamedSharding(mesh, spec_for(path_name(path), x.shape, mesh)), tree
    )


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


def gathered(tree: Any, mesh: Mesh) -> Any:
    """A tree of global arrays as host arrays, whole, in every process; one array at a time on the devices."""
    replicate = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def whole(x: jax.Array) -> np.ndarray:
        return np.asarray(x if x.is_fully_addressable else replicate(x))

    return jax.tree.map(whole, tree)
