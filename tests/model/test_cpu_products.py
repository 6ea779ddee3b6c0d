"""Products of bfloat16 factors on CPUs: the same numbers as the plain einsum, in any orientation."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.model import cpu_products
from bertjax.model.precision import Precision, precision_named

# (spec, shape of a, shape of b): those of the model, forward and backward, wide and narrow.
PRODUCTS = (
    ("ti,io->to", (12, 5), (5, 7)),
    ("to,io->ti", (12, 7), (5, 7)),
    ("ti,to->io", (12, 5), (12, 7)),
    ("ti,to->io", (64, 32), (64, 3)),
    ("tv,th->vh", (6, 40), (6, 4)),
    ("th,tv->vh", (6, 4), (6, 40)),
    ("tpv,th->pvh", (6, 2, 10), (6, 4)),
    ("bnqd,bnkd->bnqk", (2, 3, 6, 4), (2, 3, 8, 4)),
    ("bnqd,bnqk->bnkd", (2, 3, 6, 4), (2, 3, 6, 8)),
    ("bnqk,bnqd->bnkd", (2, 3, 6, 8), (2, 3, 6, 4)),
    ("bnqk,bnqd->bnkd", (2, 3, 16, 64), (2, 3, 16, 2)),
)


@pytest.mark.parametrize(("spec", "a", "b"), PRODUCTS, ids=[f"{spec} {a} {b}" for spec, a, b in PRODUCTS])
def test_products_are_those_of_einsum(spec, a, b):
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, shape).astype(jnp.bfloat16) for key, shape in zip(keys, (a, b), strict=True))
    ours = jax.jit(lambda a, b: cpu_products.einsum(spec, a, b, jnp.float32))(a, b)
    exact = np.einsum(spec, *(np.asarray(x, np.float64) for x in (a, b)))
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, exact, rtol=0, atol=2e-5)


def test_gradients_of_a_projection_are_those_of_plain_products():
    ours = precision_named("bfloat16", "cpu")
    plain = Precision(ours.operands, ours.activations)
    assert ours.einsum is cpu_products.einsum is not plain.einsum
    keys = jax.random.split(jax.random.key(1), 4)
    shapes = ((4, 8, 16), (16, 24), (24,), (4, 8, 24))
    x, kernel, bias, weights = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))

    def gradients(precision):
        return jax.grad(lambda *args: jnp.sum(precision.project(*args) * weights), argnums=(0, 1, 2))(x, kernel, bias)

    for found, expected in zip(gradients(ours), gradients(plain), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


_CPU = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""


@pytest.mark.skipif("avx512_bf16" not in _CPU, reason="a CPU without products of bfloat16")
def test_no_product_of_a_weight_gradient_is_in_float32():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((256, 128), (256, 192))]
    product = jax.jit(lambda a, b: cpu_products.einsum("ti,to->io", a, b, jnp.float32))
    assert " dot(" not in product.lower(*shapes).compile().as_text().split("ENTRY")[1]
