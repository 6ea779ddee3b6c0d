"""Where arrays live: one table from the path of an array in the training state to its PartitionSpec.

The paths of the optimizer's moments end like those of the parameters they belong to, so one table serves both.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# First match wins; patterns are searched in "a/b/c" paths. Axis names are given from the LAST dimension backwards,
# so that the stacked layer axis in front needs no entry of its own. Anything else is replicated.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"word_embeddings$", ("fsdp", "tensor")),
    (r"(position|token_type)_embeddings$", ("fsdp",)),
    (r"attention/(query|key|value)/kernel$", ("tensor", "fsdp")),
    (r"attention/(query|key|value)/bias$", ("tensor",)),
    (r"attention/output/kernel$", ("fsdp", "tensor")),
    (r"mlp/intermediate/kernel$", ("tensor", "fsdp")),
    (r"mlp/intermediate/bias$", ("tensor",)),
    (r"mlp/output/kernel$", ("fsdp", "tensor")),
    (r"(pooler/dense|mlm_head/transform)/kernel$", (None, "fsdp")),
    (r"mlm_head/bias$", ("tensor",)),
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
            return PartitionSpec(
                *(
                    a if a is not None and size % mesh.shape[a] == 0 else None
                    for a, size in zip(axes, shape, strict=True)
                )
            )
    return PartitionSpec()


def tree_shardings(tree: Any, mesh: Mesh) -> Any:
    """A NamedSharding for every array (or ShapeDtypeStruct) of a pytree, by its path."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: NamedSharding(mesh, spec_for(path_name(path), x.shape, mesh)), tree
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows divided over the data and fsdp axes."""
    return NamedSharding(mesh, BATCH_SPEC)


def process_rows(batch_size: int) -> tuple[int, int]:
    """[first, end) of this process's rows in every global batch."""
    share = batch_size // jax.process_count()
    return jax.process_index() * share, (jax.process_index() + 1) * share


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch as global arrays, divided over the mesh."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}
