"""The lean layers are the plain formulas: values and gradients, in every precision, and what they keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.model.layers import ACTIVATIONS
from bertjax.model.lean import Affine, Norm, activated_project, gelu, layer_norm, normed_projects
from bertjax.model.precision import FLOAT32, precision_named

EPS = 1e-12
BFLOAT16 = precision_named("bfloat16", "tpu")


def plain_layer_norm(x, scale, bias):
    """As flax and torch write it, differentiated by jax; in float64 for float64."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = wide.mean(-1, keepdims=True)
    variance = jnp.square(wide - mean).mean(-1, keepdims=True)
    shape = (1,) * (x.ndim - 1) + (-1,)
    return ((wide - mean) / jnp.sqrt(variance + EPS) * scale.reshape(shape) + bias.reshape(shape)).astype(x.dtype)


def plain_activated_project(activation, x, kernel, bias):
    return jnp.einsum("...i,io->...o", activation(x), kernel, precision="highest") + bias.reshape(
        (1,) * (x.ndim - 1) + (-1,)
    )


def drawn(*shapes, seed=0, dtype=jnp.float32):
    random = np.random.default_rng(seed)
    return [jnp.asarray(random.normal(size=shape), dtype) for shape in shapes]


def values_and_gradients(function, arguments, weights):
    """The output, and the gradients of its weighted sum by every argument."""

    def loss(*arguments):
        out = function(*arguments)
        return (out.astype(jnp.float32) * weights.astype(jnp.float32)).sum(), out

    gradients, out = jax.jit(jax.grad(loss, tuple(range(len(arguments))), has_aux=True))(*arguments)
    return [out, *gradients]


def assert_close(ours, plain, within):
    for number, (a, b) in enumerate(zip(ours, plain, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, atol=within * max(1.0, np.abs(b).max()), rtol=0, err_msg=str(number))


@pytest.mark.parametrize("shape", [(48,), (5, 48), (3, 7, 48), (2, 3, 4, 128)], ids=str)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_layer_norm_is_the_formula(shape, offset):
    x, weights = drawn(shape, shape)
    scale, bias = drawn(shape[-1:], shape[-1:], seed=1)
    x = x * 3 + offset
    ours = values_and_gradients(lambda *a: layer_norm(EPS, *a), (x, scale, bias), weights)
    plain = values_and_gradients(plain_layer_norm, (x, scale, bias), weights)
    assert_close(ours, plain, within=1e-6 if not offset else 1e-5)  # x itself is rounded to 2e-6 at 30


def test_layer_norm_in_bfloat16_rounds_only_what_it_returns():
    (x, weights), (scale, bias) = drawn((4, 9, 64), (4, 9, 64), dtype=jnp.bfloat16), drawn((64,), (64,), seed=1)
    ours = values_and_gradients(lambda *a: layer_norm(EPS, *a), (x, scale, bias), weights)
    wide = values_and_gradients(plain_layer_norm, (x.astype(jnp.float32), scale, bias), weights)
    assert [a.dtype for a in ours] == [jnp.bfloat16, jnp.bfloat16, jnp.float32, jnp.float32]
    assert_close(ours[2:], wide[2:], within=1e-6)  # sums over tokens stay float32
    for a, b in zip(ours[:2], wide[:2], strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b), rtol=2**-8, atol=1e-6)


def test_layer_norm_of_a_constant_row_stays_finite():
    """The variance is 0: 1 / sqrt(eps) = 1e6 is the largest factor there is."""
    x = jnp.full((2, 16), 3.0)
    out, *gradients = values_and_gradients(
        lambda *a: layer_norm(EPS, *a), (x, jnp.ones(16), jnp.zeros(16)), jnp.ones((2, 16))
    )
    assert not out.any()
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("leading", [(7,), (3, 5)], ids=str)
def test_activated_project_is_activation_then_product(name, leading):
    (x, weights), (kernel, bias) = drawn((*leading, 24), (*leading, 10)), drawn((24, 10), (10,), seed=1)
    ours = values_and_gradients(
        lambda *a: activated_project(ACTIVATIONS[name], FLOAT32, *a), (x, kernel, bias), weights
    )
    plain = values_and_gradients(lambda *a: plain_activated_project(ACTIVATIONS[name], *a), (x, kernel, bias), weights)
    assert_close(ours, plain, within=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activated_project_in_bfloat16(name):
    """Factors have 8 bits: 24 products of them are within 2 % of the largest value."""
    (x, weights), (kernel, bias) = drawn((3, 5, 24), (3, 5, 10), dtype=jnp.bfloat16), drawn((24, 10), (10,), seed=1)
    ours = values_and_gradients(
        lambda *a: activated_project(ACTIVATIONS[name], BFLOAT16, *a), (x, kernel, bias), weights
    )
    wide = values_and_gradients(
        lambda *a: plain_activated_project(ACTIVATIONS[name], *a), (x.astype(jnp.float32), kernel, bias), weights
    )
    assert [a.dtype for a in ours] == [jnp.bfloat16, jnp.bfloat16, jnp.float32, jnp.float32]
    assert_close([a.astype(jnp.float32) for a in ours], wide, within=2e-2)


def norm_then_projects(x, scale, bias, *projections):
    y = plain_layer_norm(x, scale, bias)
    return jnp.concatenate(
        [
            y,
            *(
                plain_activated_project(lambda y: y, y, *pair)
                for pair in zip(projections[::2], projections[1::2], strict=True)
            ),
        ],
        -1,
    )


def ours_in_one(precision):
    def in_one(x, scale, bias, *projections):
        pairs = tuple(Affine(*pair) for pair in zip(projections[::2], projections[1::2], strict=True))
        y, outputs = normed_projects(EPS, precision, x, Norm(scale, bias), pairs)
        return jnp.concatenate([y, *outputs], -1)

    return in_one


@pytest.mark.parametrize("leading", [(7,), (3, 5)], ids=str)
@pytest.mark.parametrize("widths", [(), (10,), (24, 24, 16)], ids=str)
def test_projections_of_a_norm_are_norm_then_product(widths, leading):
    x, weights = drawn((*leading, 24), (*leading, 24 + sum(widths)))
    parameters = drawn((24,), (24,), *(shape for width in widths for shape in ((24, width), (width,))), seed=1)
    ours = values_and_gradients(ours_in_one(FLOAT32), (x, *parameters), weights)
    plain = values_and_gradients(norm_then_projects, (x, *parameters), weights)
    assert_close(ours, plain, within=2e-6)


def test_projections_of_a_norm_in_bfloat16():
    x, weights = drawn((3, 5, 24), (3, 5, 44), dtype=jnp.bfloat16)
    parameters = drawn((24,), (24,), (24, 20), (20,), seed=1)
    ours = values_and_gradients(ours_in_one(BFLOAT16), (x, *parameters), weights)
    wide = values_and_gradients(norm_then_projects, (x.astype(jnp.float32), *parameters), weights)
    assert [a.dtype for a in ours] == [jnp.bfloat16, jnp.bfloat16, *[jnp.float32] * 4]
    assert_close([a.astype(jnp.float32) for a in ours], wide, within=2e-2)


def kept_between(function, *arguments):
    """(shape, dtype) of what the backward pass of a function keeps, without single numbers for each token."""
    leaves = jax.tree.leaves(jax.eval_shape(lambda *a: jax.vjp(function, *a)[1], *arguments))
    return sorted((x.shape, x.dtype.name) for x in leaves if x.ndim > 1 and x.shape[-1] > 1)


def test_they_keep_their_input_only():
    x, kernel = jnp.zeros((64, 32), jnp.bfloat16), jnp.zeros((32, 16))
    assert kept_between(lambda x, s, b: layer_norm(EPS, x, s, b), x, jnp.ones(32), jnp.zeros(32)) == [
        ((64, 32), "bfloat16")
    ]
    plain = kept_between(lambda x, s, b: plain_layer_norm(x, s, b), x, jnp.ones(32), jnp.zeros(32))
    assert sum(shape == (64, 32) for shape, _ in plain) > 1
    kept = kept_between(
        lambda x, k, b: activated_project(ACTIVATIONS["gelu_new"], BFLOAT16, x, k, b), x, kernel, jnp.zeros(16)
    )
    assert [shape for shape, _ in kept if shape[0] == 64] == [(64, 32)]
    one = Affine(kernel, jnp.zeros(16))
    kept = kept_between(
        lambda x, s, b: normed_projects(EPS, BFLOAT16, x, Norm(s, b), (one, one)), x, jnp.ones(32), jnp.zeros(32)
    )
    assert [shape for shape, _ in kept if shape[0] == 64] == [(64, 32)]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_on_gpus_the_activation_is_kept_and_nothing_else_changes(name):
    on_gpu = precision_named("bfloat16", "gpu")
    (x, weights), (kernel, bias) = drawn((64, 32), (64, 16), dtype=jnp.bfloat16), drawn((32, 16), (16,), seed=1)
    project = lambda precision: lambda *a: activated_project(ACTIVATIONS[name], precision, *a)
    kept = kept_between(project(on_gpu), x, kernel, bias)
    assert [one for one in kept if one[0][0] == 64] == [((64, 32), "bfloat16")] * 2
    ours, again = (values_and_gradients(project(p), (x, kernel, bias), weights) for p in (on_gpu, BFLOAT16))
    for a, b in zip(ours, again, strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))


@pytest.mark.parametrize(("dtype", "within"), [(jnp.float32, 1e-6), (jnp.bfloat16, 2**-7)], ids=str)
def test_gelu_is_that_of_jax(dtype, within):
    x = jnp.linspace(-9.0, 9.0, 4001).astype(dtype)
    ours = values_and_gradients(gelu, (x,), jnp.ones_like(x))
    plain = values_and_gradients(
        lambda x: jax.nn.gelu(x.astype(jnp.float32), approximate=False).astype(dtype), (x,), jnp.ones_like(x)
    )
    for a, b in zip(ours, plain, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=within, atol=within)
