"""Parameters of the layers in both forms: values, gradients, and what the encoder makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bertjax.config import ModelConfig
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.encoder import UNROLLED, layers_at_once
from bertjax.model.layer_stack import each_layer, is_unstacked, stacked, unstacked
from bertjax.model.parameters import parameter_specs

TREE = {"stack": jnp.arange(24.0).reshape(3, 2, 4), "table": jnp.ones((5, 4))}
AXES = {"stack": ("layers", "hidden", "mlp"), "table": ("vocab", "hidden")}


def test_taken_apart_and_put_together():
    apart = unstacked(TREE, AXES)
    assert is_unstacked(apart["stack"]) and len(apart["stack"].layers) == 3
    assert apart["table"] is TREE["table"]
    together = stacked(apart)
    np.testing.assert_array_equal(together["stack"], TREE["stack"])
    assert stacked(TREE)["stack"] is TREE["stack"]


def test_layers_are_those_of_either_form():
    stack = {"stack": TREE["stack"]}
    for params in (stack, {"stack": unstacked(TREE, AXES)["stack"]}):
        layers = each_layer(params)
        assert len(layers) == 3
        for number, layer in enumerate(layers):
            np.testing.assert_array_equal(layer["stack"], TREE["stack"][number])


def test_the_gradient_of_a_stack_is_that_of_its_layers():
    weigh = lambda stack: sum(jnp.sum((number + 1) * layer**2) for number, layer in enumerate(each_layer(stack)))
    expected = 2 * TREE["stack"] * jnp.asarray([1.0, 2.0, 3.0])[:, None, None]
    np.testing.assert_allclose(jax.grad(weigh)(TREE["stack"]), expected)


@pytest.mark.parametrize(
    ("changes", "backend", "expected"),
    [
        ({"scan_layers": True}, "tpu", 1),
        ({"scan_layers": False}, "cpu", 40),
        ({"layers_per_scan_step": 6}, "tpu", 6),
        ({"scan_layers": True, "layers_per_scan_step": 100}, "tpu", 40),
        ({}, "tpu", UNROLLED["tpu"][1]),
        ({"num_hidden_layers": UNROLLED["tpu"][0]}, "tpu", UNROLLED["tpu"][0]),
        ({}, "cpu", 1),
    ],
)
def test_how_many_layers_a_step_of_the_scan_runs(changes, backend, expected):
    config = ModelConfig(**{"num_hidden_layers": 40, **changes})
    assert layers_at_once(config, backend) == expected


SMALL = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.mark.parametrize("changes", [{}, {"layers_per_scan_step": 2}, {"scan_layers": False}], ids=str)
def test_unstacked_parameters_give_the_same_gradient(changes):
    """Five layers, so that groups of two leave one over."""
    config = ModelConfig(num_hidden_layers=5, max_position_embeddings=8, initializer_range=0.3, **SMALL, **changes)
    graphdef, params = split_params(Bert(config, nnx.Rngs(0), heads=()))
    specs = parameter_specs(nnx.eval_shape(lambda: Bert(config, nnx.Rngs(0), heads=())))
    axes = jax.tree.map(lambda spec: spec.axes, specs)
    ids = np.arange(14).reshape(2, 7)
    loss = lambda params: (merge_params(graphdef, params)(ids).sequence_output ** 3).sum()
    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    other_value, other = jax.jit(jax.value_and_grad(loss))(unstacked(params, axes))
    np.testing.assert_allclose(value, other_value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), gradient, stacked(other))
