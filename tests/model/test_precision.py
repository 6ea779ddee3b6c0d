"""The table of precisions, by backend."""

import jax
import jax.numpy as jnp
import pytest

from bertjax.model.precision import FLOAT32, precision_named


def lowered(platform, gradient=False):
    """The products of ``precision.product`` in the program for a platform, as lines of StableHLO."""
    product = precision_named("tf32", {"cuda": "gpu"}.get(platform, platform)).product
    function = lambda a, b: product("ti,io->to", a, b).sum()
    function = jax.grad(function, (0, 1)) if gradient else function
    factors = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((8, 16), (16, 4))]
    text = jax.jit(function).trace(*factors).lower(lowering_platforms=(platform,)).as_text()
    return [line for line in text.splitlines() if "dot_general" in line]


def test_tf32_keeps_float32_arrays():
    for backend in ("cpu", "gpu", "tpu"):
        found = precision_named("tf32", backend)
        assert (found.operands, found.activations) == (FLOAT32.operands, FLOAT32.activations)
    assert precision_named("tf32", "cpu") == FLOAT32


@pytest.mark.parametrize("gradient", [False, True])
def test_products_of_tf32_are_asked_for_on_gpus(gradient):
    products = lowered("cuda", gradient)
    assert len(products) == (2 if gradient else 1)
    assert all("lhs_precision_type = tf32, rhs_precision_type = tf32, accumulation_type = f32" in p for p in products)


def test_three_products_of_bfloat16_take_their_place_on_tpus():
    (product,) = lowered("tpu")
    assert "precision = [HIGH, HIGH]" in product


def test_float32_is_float32_everywhere():
    for backend in ("cpu", "gpu", "tpu"):
        assert precision_named("float32", backend).algorithm == jax.lax.Precision.HIGHEST
