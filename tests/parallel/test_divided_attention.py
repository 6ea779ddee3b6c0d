"""Attention that each device calls on its own rows and heads: the masks and gradients of one device."""

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.model.attention import SegmentIds, kernel
from bertjax.model.dropout import DropoutSeed, dropout_at
from bertjax.model.precision import FLOAT32
from bertjax.parallel.mesh import make_mesh
from bertjax.parallel.sharding import divided_attention

B, S, N, D = 4, 24, 6, 16


def test_rows_and_heads_divided_over_eight_devices_give_what_explicit_gives():
    random = np.random.default_rng(0)
    query, key, value, cotangent = random.uniform(-1, 1, (4, B, S, N, D)).astype(np.float32)
    ids = jnp.asarray(np.sort(random.integers(0, 3, (B, S)), axis=1), jnp.int32)
    dropout = dropout_at(4, 0.3, DropoutSeed(jnp.uint32(1), jnp.uint32(2), jnp.arange(B, dtype=jnp.uint32)))

    def run(attend):
        both = lambda *x: jax.vjp(lambda *x: attend(*x, SegmentIds(ids, ids), 6, dropout), *x)
        return jax.jit(lambda *x: (both(*x)[0], *both(*x)[1](cotangent)))(query, key, value)

    # Two of the eight share the heads: three each, so the second one's masks begin at head 3.
    divided = divided_attention(make_mesh(2, 2, 2, jax.devices()[:8]))
    for got, wanted in zip(run(divided(kernel("fused", FLOAT32))), run(kernel("explicit", FLOAT32)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6)
