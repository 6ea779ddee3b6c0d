import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict
from jax.sharding import PartitionSpec

from bertjax.config import ModelConfig, OptimizerConfig
from bertjax.engine.job import Job
from bertjax.engine.optimizers import make_optimizer
from bertjax.errors import ConfigError
from bertjax.model.bert import Bert, split_params
from bertjax.model.parameters import parameter_specs
from bertjax.parallel.mesh import batch_shards, make_mesh
from bertjax.parallel.sharding import path_name, process_rows, spec_for, to_global, tree_shardings

CONFIG = ModelConfig(vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)

SPECS = parameter_specs(nnx.eval_shape(lambda: Bert(CONFIG, nnx.Rngs(0))))
AXES = jax.tree.map(lambda spec: spec.axes, SPECS)
# What stood in the table of paths before parameters had logical axes, on a mesh that divides everything.
FORMERLY = {
    "embeddings/word_embeddings": ("tensor", "fsdp"),
    "embeddings/position_embeddings": (None, "fsdp"),
    "embeddings/token_type_embeddings": (None, "fsdp"),
    "embeddings/layer_norm/scale": ("fsdp",),
    "encoder/layers/attention/query/kernel": (None, "fsdp", "tensor"),
    "encoder/layers/attention/query/bias": (None, ("tensor", "fsdp")),
    "encoder/layers/attention/output/kernel": (None, "tensor", "fsdp"),
    "encoder/layers/attention/output/bias": (None, "fsdp"),
    "encoder/layers/mlp/intermediate/kernel": (None, "fsdp", "tensor"),
    "encoder/layers/mlp/intermediate/bias": (None, ("tensor", "fsdp")),
    "encoder/layers/mlp/output/kernel": (None, "tensor", "fsdp"),
    "encoder/layers/mlp/layer_norm/bias": (None, "fsdp"),
    "pooler/dense/kernel": ("fsdp", None),
    "pooler/dense/bias": ("fsdp",),
    "mlm_head/transform/kernel": ("fsdp", None),
    "mlm_head/bias": (("tensor", "fsdp"),),
    "nsp_head/dense/kernel": ("fsdp", None),
}


def test_parameters_are_divided_as_ever():
    mesh, axes = make_mesh(2, 2, 2), flatten_dict(AXES, sep="/")
    for path, spec in FORMERLY.items():
        assert spec_for(axes[path], (64,) * len(axes[path]), mesh) == PartitionSpec(*spec), path


def test_a_logical_axis_without_a_rule_is_refused():
    with pytest.raises(ValueError, match="no sharding rule for the logical axis 'experts'; there are hidden"):
        spec_for(("experts", "hidden"), (4, 4), make_mesh(1, 1, 1, devices=jax.devices()[:1]))


def test_mesh_sizes():
    assert dict(make_mesh(-1, 2, 1).shape) == {"data": 4, "fsdp": 2, "tensor": 1}
    assert batch_shards(make_mesh(-1, 2, 2)) == 4


@pytest.mark.parametrize(
    ("sizes", "would"),
    [
        ((3, 1, 1), "data = 8 would"),
        ((-1, 3, 1), "fsdp = one of 1, 2, 4, 8 would"),
        ((-1, 2, 3), "tensor = one of 1, 2, 4 would"),
        ((4, 4, 1), "data = 2, or fsdp = 2 would"),
        ((3, 3, 3), "data = -1, fsdp = 1, tensor = 1 would"),
    ],
)
def test_impossible_sizes_are_refused_with_those_that_would_work(sizes, would):
    with pytest.raises(ConfigError, match=r"config\.parallel.* of 8 devices; " + would):
        make_mesh(*sizes)


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 8, 1), (4, 2, 1)])
def test_every_array_lives_where_the_table_says(sizes):
    """Parameters and moments alike, also when made under jit; under fsdp nothing but two numbers is replicated."""
    mesh = make_mesh(*sizes)
    make_params = lambda: split_params(Bert(CONFIG, nnx.Rngs(0)))[1]
    optimizer = make_optimizer(OptimizerConfig(), SPECS)
    state = Job(mesh, "float32", None, None, SPECS, None, optimizer, make_params).initial_state()
    tables = flatten_dict(AXES, sep="/")
    divided = 0
    for path, array in jax.tree_util.tree_leaves_with_path(state):
        name = path_name(path)
        axes = next((axes for end, axes in tables.items() if name.endswith(end)), None)
        divided += axes is not None
        expected = PartitionSpec() if axes is None else spec_for(axes, array.shape, mesh)
        assert array.sharding.is_equivalent_to(jax.NamedSharding(mesh, expected), array.ndim), name
        if array.ndim and not name.endswith("nsp_head/dense/bias"):
            held = array.addressable_shards[0].data.size
            assert held <= array.size // mesh.shape["fsdp"], name
    assert divided == 3 * len(tables)
    shardings = tree_shardings(state, AXES, mesh)
    kernel = shardings.opt_state[1].nu["encoder"]["layers"]["mlp"]["intermediate"]["kernel"]
    assert kernel.spec == PartitionSpec(None, "fsdp", "tensor")


def test_an_axis_that_does_not_divide_is_left_out():
    # tensor x fsdp = 8 does not divide 12: the larger of the two that do.
    assert spec_for(("vocab",), (12,), make_mesh(1, 4, 2)) == PartitionSpec("fsdp")
    assert spec_for(("vocab", "hidden"), (256, 33), make_mesh(1, 2, 4)) == PartitionSpec("tensor", None)


def test_batches_become_global_arrays():
    mesh = make_mesh(4, 2, 1)
    batch = to_global({"input_ids": np.arange(32).reshape(16, 2)}, mesh)
    assert batch["input_ids"].shape == (16, 2)
    assert len({str(shard.index) for shard in batch["input_ids"].addressable_shards}) == 8
    assert process_rows(16, mesh).tolist() == list(range(16))


def test_one_device_replicates_all():
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    shardings = tree_shardings({"a": jnp.zeros((4, 4))}, {"a": ("vocab", "hidden")}, mesh)
    assert shardings["a"].is_fully_replicated
