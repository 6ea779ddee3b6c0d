"""Checksums: the same for every division, another for every change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from bertjax.parallel.checksums import Checksums, host_checksum
from bertjax.parallel.mesh import make_mesh
from bertjax.parallel.sharding import tree_shardings

random = np.random.default_rng(0)
LAYERS = "encoder/layers"
TREE = {
    "embeddings/word_embeddings": random.normal(size=(64, 24)).astype(np.float32),
    f"{LAYERS}/attention/query/kernel": random.normal(size=(3, 16, 24)).astype(np.float32),
    f"{LAYERS}/attention/query/bias": random.normal(size=(3, 16)).astype(jnp.bfloat16),
    f"{LAYERS}/mlp/output/kernel": random.normal(size=(3, 24, 16)).astype(np.float16),
    "mlm_head/bias": random.normal(size=(64,)).astype(np.float32),
    "count": np.int32(7),
    "flags": random.random(8) < 0.5,
    "small": random.normal(size=(3,)).astype(np.float16),
}


AXES = {
    "embeddings/word_embeddings": ("vocab", "hidden"),
    f"{LAYERS}/attention/query/kernel": ("layers", "hidden", "heads"),
    f"{LAYERS}/attention/query/bias": ("layers", "heads"),
    f"{LAYERS}/mlp/output/kernel": ("layers", "mlp", "hidden"),
    "mlm_head/bias": ("vocab",),
}


def sums_of(tree, sizes=(1, 8, 1)):
    mesh = make_mesh(*sizes)
    tree = jax.tree.map(np.asarray, tree)
    return Checksums(mesh)(jax.device_put(tree, tree_shardings(tree, AXES, mesh)))


@pytest.mark.smoke
def test_they_do_not_depend_on_the_division():
    expected = sums_of(TREE, (8, 1, 1))
    assert set(expected[0]) == set(TREE) and all(len(digits) == 16 for digits in expected[0].values())
    assert len(set(expected[0].values())) == len(TREE) and expected[1]
    for sizes in ((1, 8, 1), (1, 1, 8), (2, 2, 2), (1, 4, 2), (1, 2, 4)):
        assert sums_of(TREE, sizes) == expected


def test_the_host_computes_the_same():
    """Whatever the layout in memory, and over the ends of the chunks that it works in."""
    long = random.normal(size=(3, 50_000)).astype(np.float32)
    tree = TREE | {"mlm_head/bias": long[0], "small": long.T, "none": np.float32(0.0)}
    assert {name: host_checksum(np.asarray(x)) for name, x in tree.items()} == sums_of(tree)[0]
    assert host_checksum(long.T) != host_checksum(long)


def test_no_device_gets_anything_of_another():
    mesh = make_mesh(1, 4, 2)
    name = f"{LAYERS}/attention/query/kernel"
    tree = jax.device_put({name: TREE[name]}, tree_shardings({name: TREE[name]}, AXES, mesh))
    assert tree[name].sharding.spec == PartitionSpec(None, "fsdp", "tensor")
    program = Checksums(mesh)._program(tree[name]).as_text()
    assert not [kind for kind in ("all-reduce", "all-gather", "all-to-all", "collective-permute") if kind in program]


def test_every_flipped_bit_is_seen():
    mesh = make_mesh(1, 8, 1)
    checksums = Checksums(mesh)
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
    name = f"{LAYERS}/mlp/output/kernel"
    broken = TREE | {name: TREE[name].copy()}
    broken[name][2, 21, 15] = bad
    assert not sums_of(broken)[1]
