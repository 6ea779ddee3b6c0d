"""Looking up rows of a table that is divided over the mesh, without ever bringing the table together."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from bertjax.parallel.sharding import BATCH_SPEC


def divided_lookup(mesh: Mesh):
    """``lookup(table [V, H], ids int [B, S]) -> [B, S, H]`` for a table divided over tensor (V) and fsdp (H).

    The ids travel to the table, a few kilobytes: each device looks up what its part of the table holds, for the rows
    of all devices that share the columns among them, and every row's columns come back to it. Left to itself, the
    compiler gathers the activations of the whole batch on every device as soon as data and fsdp are both above 1.
    """
    if mesh.shape["fsdp"] == mesh.shape["tensor"] == 1:
        return lambda table, ids: jnp.take(table, ids, axis=0)

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(PartitionSpec("tensor", "fsdp"), PartitionSpec(*BATCH_SPEC, None)),
        out_specs=PartitionSpec(*BATCH_SPEC, None, None),
    )
    def lookup(table: jax.Array, ids: jax.Array) -> jax.Array:
        ids = jax.lax.all_gather(ids, "fsdp", axis=0, tiled=True)
        inside = ids - jax.lax.axis_index("tensor") * table.shape[0]
        here = (inside >= 0) & (inside < table.shape[0])
        columns = jnp.take(table, jnp.where(here, inside, 0), axis=0)
        columns = jax.lax.psum(jnp.where(here[..., None], columns, 0.0), "tensor")
        return jax.lax.all_to_all(columns, "fsdp", split_axis=0, concat_axis=2, tiled=True)

    return lookup
