"""Checksums: the same for every division, another for every change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from bertjax.parallel.checksums import make_checksums
from bertjax.parallel.mesh import make_mesh

random = np.random.default_rng(0)
TREE = {
    "kernel": random.normal(size=(16, 8, 24)).astype(np.float32),
    "half": random.normal(size=(8, 16)).astype(jnp.bfloat16),
    "count": np.int32(7),
    "flags": random.random(8) < 0.5,
    "small": random.normal(size=(3,)).astype(np.float16),
}


def sums_of(tree, sizes=(1, 8, 1), axes=("fsdp",)):
    mesh = make_mesh(*sizes)

    def placed(x):
        x = np.asarray(x)
        spec = PartitionSpec(*axes) if x.ndim and x.shape[0] % 8 == 0 else PartitionSpec()
        return jax.device_put(x, NamedSharding(mesh, spec))

    return make_checksums(mesh)(jax.tree.map(placed, tree))


@pytest.mark.smoke
def test_they_do_not_depend_on_the_division():
    expected = sums_of(TREE, axes=())
    assert set(expected[0]) == set(TREE) and all(len(digits) == 16 for digits in expected[0].values())
    assert len(set(expected[0].values())) == len(TREE) and expected[1]
    for sizes, axes in (((1, 8, 1), ("fsdp",)), ((2, 2, 2), (("data", "tensor"),)), ((8, 1, 1), ("data",))):
        assert sums_of(TREE, sizes, axes) == expected


def test_every_flipped_bit_is_seen():
    mesh = make_mesh(1, 8, 1)
    checksums = make_checksums(mesh)
    array = random.normal(size=(5, 7)).astype(np.float32)
    expected, _ = checksums({"x": jnp.asarray(array)})
    for place in range(array.size):
        for bit in range(32):
            changed = array.copy()
            changed.view(np.uint32).reshape(-1)[place] ^= np.uint32(1 << bit)
            assert checksums({"x": jnp.asarray(changed)})[0] != expected, (place, bit)


def test_exchanged_and_moved_elements_are_seen():
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    exchanged = array.copy()
    exchanged[[0, 1]] = exchanged[[1, 0]]
    seen = {sums_of({"x": x})[0]["x"] for x in (array, exchanged, array.reshape(6, 4).T.copy(), np.roll(array, 1))}
    assert len(seen) == 4
    # Zeros count by their number.
    assert sums_of({"x": np.zeros(8, np.float32)})[0] != sums_of({"x": np.zeros(16, np.float32)})[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_told(bad):
    broken = TREE | {"kernel": TREE["kernel"].copy()}
    broken["kernel"][3, 2, 1] = bad
    assert not sums_of(broken)[1]
