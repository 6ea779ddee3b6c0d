"""Looking up in a divided table gives what looking up in a whole one gives, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from bertjax.parallel.mesh import make_mesh
from bertjax.parallel.sharding import batch_sharding, divided_lookup

TABLE = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
IDS = np.random.default_rng(1).integers(0, 64, (16, 5))
WEIGHTS = np.random.default_rng(2).normal(size=(16, 5, 16)).astype(np.float32)


@pytest.mark.parametrize("sizes", [(8, 1, 1), (4, 2, 1), (2, 2, 2), (1, 8, 1), (1, 1, 8), (1, 4, 2)])
def test_values_and_gradients(sizes):
    mesh = make_mesh(*sizes)
    table = jax.device_put(TABLE, NamedSharding(mesh, PartitionSpec("tensor", "fsdp")))
    ids, weights = (jax.device_put(x, batch_sharding(mesh)) for x in (IDS, WEIGHTS))
    lookup = divided_lookup(mesh)
    compiled = jax.jit(lookup).lower(table, ids).compile()
    np.testing.assert_array_equal(np.asarray(compiled(table, ids)), TABLE[IDS])
    loss = lambda table: jnp.sum(lookup(table, ids) * weights)
    expected = np.zeros_like(TABLE)
    np.add.at(expected, IDS.reshape(-1), WEIGHTS.reshape(-1, 16))
    np.testing.assert_allclose(np.asarray(jax.jit(jax.grad(loss))(table)), expected, atol=1e-5)
    # No device ever holds more of a float array than its share: neither the table nor the batch is brought together.
    held = max(TABLE.size // (mesh.shape["fsdp"] * mesh.shape["tensor"]), IDS.size * 16 // mesh.shape["data"])
    for line in compiled.as_text().split("\n"):
        if " all-gather" in line and "f32[" in line:
            sizes = [int(n) for n in line.split("f32[")[1].split("]")[0].split(",")]
            assert np.prod(sizes) <= held, line
