"""Parameters describe themselves, and whatever reads that knows every one of them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict

from bertjax.config import ModelConfig
from bertjax.errors import ModelFileError
from bertjax.interop.weights import entries
from bertjax.model.bert import Bert, split_params
from bertjax.model.block import BlockSpec
from bertjax.model.parameters import ONES, Maker, axis_sizes, parameter_specs
from bertjax.model.task import KINDS, TaskConfig, TaskModel

CONFIG = ModelConfig(vocab_size=100, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64)


def described(model):
    return flatten_dict(parameter_specs(model), sep="/")


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_every_parameter_says_what_its_axes_are(kind):
    """Without any value being made; and the sizes are those of the axes."""
    make = lambda: Bert(CONFIG, nnx.Rngs(0)) if kind is None else TaskModel(CONFIG, TaskConfig(kind), nnx.Rngs(0))
    model = nnx.eval_shape(make)
    specs, shapes = described(model), flatten_dict(split_params(model)[1], sep="/")
    assert specs.keys() == shapes.keys()
    sizes = axis_sizes(CONFIG)
    for path, spec in specs.items():
        named = zip(spec.axes, shapes[path].shape, strict=True)
        assert all(sizes[axis] == size for axis, size in named if axis != "labels"), path
        assert ("layers" in path) == (spec.axes[0] == "layers") == ("{layer}" in dict(spec.names)["bert"]), path


def test_a_model_with_values_says_the_same_as_an_abstract_one():
    assert described(Bert(CONFIG, nnx.Rngs(0))) == described(nnx.eval_shape(lambda: Bert(CONFIG, nnx.Rngs(7))))


def test_decay_skips_biases_and_norms_alone():
    for path, spec in described(nnx.eval_shape(lambda: Bert(CONFIG, nnx.Rngs(0)))).items():
        assert spec.decay == (not path.endswith("bias") and "layer_norm" not in path), path


def test_a_parameter_without_a_description_is_refused():
    model = Bert(CONFIG, nnx.Rngs(0))
    model.pooler.gate = nnx.Param(jnp.zeros(32))
    with pytest.raises(TypeError, match=r"parameter pooler/gate does not describe itself; make it with a Maker"):
        parameter_specs(model)


def test_a_new_parameter_is_made_stacked_divided_and_named_by_its_one_declaration():
    make = Maker(axis_sizes(CONFIG), 0.02, nnx.Rngs(0)).stacked("layers")
    gate = make(("hidden", "mlp"), ONES, decay=True, suffix=".weight", bert="encoder.{layer}.gate", other="g")
    assert gate.shape == (3, 32, 64) and np.all(gate[...] == 1)
    spec = gate.get_metadata()["spec"]
    assert spec.axes == ("layers", "hidden", "mlp") and spec.decay
    assert dict(spec.names) == {"bert": "encoder.{layer}.gate.weight", "other": "g.weight"}


def test_tensors_of_the_layout_are_as_long_as_the_config_says():
    """The vocabulary without its padding, kernels transposed, a tensor a layer."""
    found = entries(dataclasses.replace(CONFIG, max_position_embeddings=40))
    assert found["embeddings/word_embeddings"].shape == (100, 32)
    assert found["embeddings/position_embeddings"].shape == (40, 32)
    assert found["encoder/layers/mlp/intermediate/kernel"].shape == (64, 32)
    assert found["nsp_head/dense/kernel"][:2] == (("cls.seq_relationship.weight",), (2, 32))
    assert found["mlm_head/bias"][:2] == (("cls.predictions.bias",), (100,))
    kernel = found["encoder/layers/mlp/output/kernel"]
    assert (
        kernel.names == tuple(f"bert.encoder.layer.{n}.output.dense.weight" for n in range(3))
        and "layers" in kernel.spec.axes
    )
    names = [name for entry in found.values() for name in entry.names]
    assert len(set(names)) == len(names)


def test_a_parameter_without_a_name_in_the_layout_is_named(monkeypatch):
    monkeypatch.setattr("bertjax.model.bert.bert", lambda config: BlockSpec(norm="pre"))
    with pytest.raises(
        ModelFileError, match=r"encoder/layer_norm/.* has no name in the Hugging Face layout of a 'bert'"
    ):
        entries(dataclasses.replace(CONFIG, max_position_embeddings=41))
