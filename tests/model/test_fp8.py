"""Products of 8-bit factors with delayed scaling, beside the same in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.model.fp8 import HISTORY, apart, joined, recorded, scaled_product, scales


@pytest.fixture
def factors():
    """x [T, I], kernel [I, O], the cotangent [T, O]."""
    keys = jax.random.split(jax.random.key(0), 3)
    return (
        jax.random.normal(keys[0], (128, 64)),
        0.02 * jax.random.normal(keys[1], (64, 32)),
        1e-4 * jax.random.normal(keys[2], (128, 32)),
    )


def with_gradients(x, kernel, cotangent, scaling):
    y, back = jax.vjp(scaled_product, x, kernel, scaling)
    return y, *back(cotangent)


def relative(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def settled(*factors):
    scaling = jnp.zeros((3, HISTORY))
    return recorded(scaling, with_gradients(*factors, scaling)[3])


def test_products_are_as_near_as_the_formats_allow(factors):
    """A random rounding error of 2^-4 at most (e4m3) or 2^-3 (e5m2) in each factor averages to some 4 and 6 %."""
    x, kernel, cotangent = factors
    for scaling in (jnp.zeros((3, HISTORY)), settled(*factors)):
        y, d_x, d_kernel, _ = with_gradients(*factors, scaling)
        assert 0.01 < relative(y, x @ kernel) < 0.05
        assert 0.01 < relative(d_x, cotangent @ kernel.T) < 0.08
        assert 0.01 < relative(d_kernel, x.T @ cotangent) < 0.08


def test_numbers_that_have_few_bits_are_exact():
    """Small whole numbers times powers of two: scaling and unscaling round nothing."""
    x, kernel = jnp.array([[1.0, -3.0], [0.5, 2.0]]), jnp.array([[0.25, 6.0], [-2.0, 1.0]])
    cotangent = jnp.array([[1.0, -0.5], [2.0, 1.5]]) * 2.0**-20
    scaling = settled(x, kernel, cotangent)
    y, d_x, d_kernel, _ = with_gradients(x, kernel, cotangent, scaling)
    np.testing.assert_array_equal(y, x @ kernel)
    np.testing.assert_array_equal(d_x, cotangent @ kernel.T)
    np.testing.assert_array_equal(d_kernel, x.T @ cotangent)


def test_the_scale_is_that_of_the_steps_before_and_what_is_beyond_saturates(factors):
    x, kernel, cotangent = factors
    scaling = settled(*factors)
    y = scaled_product(1000.0 * x, kernel, scaling)
    assert jnp.isfinite(y).all()
    assert float(jnp.abs(y).max()) < 100.0 * float(jnp.abs(x @ kernel).max())
    # The step after knows.
    seen = with_gradients(1000.0 * x, kernel, cotangent, scaling)[3]
    assert relative(scaled_product(1000.0 * x, kernel, recorded(scaling, seen)), 1000.0 * x @ kernel) < 0.05


def test_the_largest_of_the_last_steps_counts():
    scaling = jnp.zeros((3, HISTORY)).at[0, 5].set(100.0).at[0, 0].set(1.0)
    assert float(scales(scaling)[0]) == 2.0  # 448 / 100 is between 2^2 and 2^3, and one power of two stays free
    ones = jnp.zeros((3, HISTORY)).at[:, :2].set(1.0)
    for _ in range(HISTORY - 5):
        scaling = recorded(scaling, ones)
    assert float(scales(scaling)[0]) == 2.0**7


def test_what_is_seen_adds_up_over_parts_and_is_left_out_where_it_is_not_finite(factors):
    x, kernel, cotangent = factors
    scaling = jnp.zeros((3, HISTORY))
    halves = [with_gradients(x[part], kernel, cotangent[part], scaling)[3] for part in (slice(64), slice(64, 128))]
    newest = recorded(scaling, halves[0] + halves[1])[:, 0]
    largest = lambda a: (jnp.abs(a[:64]).max() + jnp.abs(a[64:]).max()) / 2
    np.testing.assert_allclose(newest, [largest(x), jnp.abs(kernel).max(), largest(cotangent)], rtol=1e-6)
    bad = recorded(settled(*factors), halves[0].at[2, 0].set(jnp.inf))
    assert jnp.isfinite(bad).all() and float(bad[2, 0]) == float(bad[2, 1])


def test_histories_are_taken_out_of_a_tree_and_put_back():
    tree = {"a": {"kernel": 1, "scaling": 2}, "b": {"scaling": 3}, "c": {"d": {"bias": 4}}}
    others, scaling = apart(tree)
    assert others == {"a": {"kernel": 1}, "c": {"d": {"bias": 4}}}
    assert scaling == {"a": {"scaling": 2}, "b": {"scaling": 3}}
    assert joined(others, scaling) == tree
    assert apart(others) == (others, {}) and joined(others, {}) == others
