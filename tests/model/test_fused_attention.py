"""The fused kernels, in Pallas's interpreter, against ``explicit``: outputs, gradients, dropout, leakage.

The bar is 300 random layouts on each backend, which takes minutes:

    BERTJAX_LAYOUTS=300 python -m pytest -n 0 tests/model/test_fused_attention.py -k random_layouts
"""

import functools
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.model.attention import SegmentIds, fused, fused_gpu, fused_tpu, kernel
from bertjax.model.dropout import DropoutSeed, dropout_at
from bertjax.model.precision import FLOAT32, precision_named

B = 2
# (Sq, S, N, D): short rows, padded heads, more heads than fill whole tiles, padded rows, fewer queries, odd numbers of
# heads, large heads, and rows of several blocks.
SIZES = (
    (16, 16, 1, 32),
    (40, 40, 5, 16),
    (24, 24, 9, 20),
    (100, 100, 2, 64),
    (1, 130, 4, 32),
    (128, 128, 3, 64),
    (60, 128, 3, 48),
    (128, 128, 1, 128),
    (256, 256, 2, 64),
    (30, 256, 3, 64),
    (384, 384, 3, 32),
)
WINDOWS = (None, 2, 6, 64, 1000)
BLOCKS_FROM = 200  # positions; shorter rows are computed in one piece on a TPU
LAYOUTS = int(os.environ.get("BERTJAX_LAYOUTS", "10"))
BACKENDS = {"tpu": fused_tpu, "gpu": fused_gpu}


@pytest.fixture(params=BACKENDS, autouse=True, scope="module")
def backend(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "_kernels", lambda shape: BACKENDS[request.param])
        patch.setattr(fused_tpu, "WHOLE_ROW", BLOCKS_FROM)
        patch.setattr(fused_tpu, "BLOCK_SIZES", (128,))
        results.cache_clear()
        yield request.param
        results.cache_clear()


@functools.cache
def results(name, window, rate, segments=True, precision=FLOAT32):
    """``(query, key, value, query ids, key ids, row numbers, cotangent) -> (output, three gradients)``, compiled."""

    @jax.jit
    def run(query, key, value, query_ids, key_ids, rows, cotangent):
        dropout = dropout_at(4, rate, DropoutSeed(jnp.uint32(1), jnp.uint32(2), rows))
        ids = SegmentIds(query_ids, key_ids) if segments else None
        out, back = jax.vjp(lambda *x: kernel(name, precision)(*x, ids, window, dropout), query, key, value)
        return out, *back(cotangent.astype(out.dtype))

    return run


def inputs(size, seed, layout):
    """Random arrays of a size; ``layout`` cuts the row into so many examples, and what is left is padding.

    Scores have a standard deviation of 1. Values and cotangents are at most 1: float32 holds an output of 4 to 5e-7
    alone, and explicit attention itself is then off by 1.4e-6 (from float64), near the bar of 2e-6.
    """
    Sq, S, N, D = size
    random = np.random.default_rng(seed)
    query, key = (random.normal(size=(B, n, N, D)).astype(np.float32) for n in (Sq, S))
    value, cotangent = (random.uniform(-1, 1, (B, n, N, D)).astype(np.float32) for n in (S, Sq))
    ids = np.zeros((B, S), np.int32)
    for row in ids:
        ends = np.sort(random.integers(1, S + 1, layout))
        for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True) if layout else (), start=1):
            row[start:end] = number
    return query, key, value, ids[:, :Sq], ids, random.integers(0, 2**32, B, np.uint32), cotangent


@settings(max_examples=LAYOUTS, deadline=None)
@given(
    size=st.sampled_from(SIZES),
    seed=st.integers(0, 2**32 - 1),
    layout=st.integers(0, 5),  # 0: rows of padding alone
    window=st.sampled_from(WINDOWS),
    rate=st.sampled_from((0.0, 0.1)),
    segments=st.booleans(),
)
def test_random_layouts_give_what_explicit_gives(size, seed, layout, window, rate, segments):
    arrays = inputs(size, seed, layout)
    plain, fast = (results(name, window, rate, segments)(*arrays) for name in ("explicit", "fused"))
    np.testing.assert_allclose(fast[0], plain[0], rtol=0, atol=2e-6)
    for got, wanted in zip(fast[1:], plain[1:], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_the_dropout_mask_is_that_of_explicit_to_the_bit():
    """Values that are the columns of the identity show every probability: S keys take S / D heads of them."""
    S, D = 256, 128
    query = np.zeros((B, S, 2, D), np.float32)
    rows, ones = jnp.arange(B, dtype=jnp.uint32), np.ones((2, B, S), np.int32)
    for half in range(S // D):
        value = np.zeros((B, S, 2, D), np.float32)
        value[:, half * D : (half + 1) * D] = np.eye(D, dtype=np.float32)[None, :, None]
        plain, fast = (
            np.asarray(results(name, None, 0.3)(query, query, value, *ones, rows, query)[0])
            for name in ("explicit", "fused")
        )
        np.testing.assert_array_equal(plain != 0, fast != 0)
        assert 0.25 < np.mean(fast == 0) < 0.35


@pytest.mark.parametrize("size", [SIZES[0], SIZES[5], SIZES[7]])
def test_nothing_crosses_examples_and_repeats_are_equal_to_the_bit(size):
    arrays = inputs(size, 0, 3)
    query_ids, key_ids = arrays[3], arrays[4]
    chosen = query_ids == query_ids[:, :1]  # the example of the first query of each row
    cotangent = arrays[6] * chosen[:, :, None, None]
    run = results("fused", None, 0.1)
    first = run(*arrays[:6], cotangent)
    others = key_ids != query_ids[:, :1]
    for gradient in first[2:]:
        assert np.all(np.asarray(gradient)[others] == 0)
        assert np.any(np.asarray(gradient)[~others] != 0)
    for _ in range(100 if size == SIZES[0] else 2):
        for got, wanted in zip(run(*arrays[:6], cotangent), first, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_a_query_that_sees_no_key_gets_zeros_and_gives_no_gradient():
    query, key, value, query_ids, key_ids, rows, cotangent = inputs((256, 256, 2, 64), 0, 2)
    query_ids = np.where(np.arange(256) == 7, 99, query_ids)
    out, *gradients = results("fused", 6, 0.0)(query, key, value, query_ids, key_ids, rows, cotangent)
    assert np.all(np.asarray(out)[:, 7] == 0) and np.all(np.asarray(gradients[0])[:, 7] == 0)
    assert all(np.isfinite(x).all() for x in (out, *gradients))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precisions_stay_as_near_to_float32_as_explicit_does(precision):
    arrays, lower = inputs((256, 256, 2, 64), 0, 3), precision_named(precision, "tpu")
    of = lambda name, precision: results(name, 64, 0.1, True, precision)(*arrays)
    exact, plain, fast = of("explicit", FLOAT32), of("explicit", lower), of("fused", lower)
    assert fast[0].dtype == lower.activations
    for right, other, got in zip(exact, plain, fast, strict=True):
        error = lambda x, right=right: np.abs(np.asarray(x, np.float32) - right).max()
        assert error(got) < max(1.5 * error(other), 2e-3)


def test_heads_that_no_kernel_holds_are_refused():
    x = np.zeros((B, 8, 1, 136), np.float32)
    with pytest.raises(ValueError, match="no heads of size 136; the largest is 128"):
        kernel("fused", FLOAT32)(x, x, x, None, None, None)


def test_declared_flops_are_those_of_the_blocks_that_the_window_leaves(backend):
    """7 of 9 blocks of 128 in a row of 384; two products forward, five backward, on GPUs three and four."""
    S, N, D = 384, 3, 32
    x = np.zeros((B, S, N, D), np.float32)
    both = lambda *x: jax.vjp(lambda *x: kernel("fused", FLOAT32)(*x, None, 6, None), *x)[1](x[0])
    text = str(jax.make_jaxpr(both)(x, x, x))
    size = {"tpu": 128, "gpu": 32}[backend]
    blocks = S // size
    met = 3 * blocks - 2
    declared = [int(flops) for flops in re.findall(r"flops=(\d+)", text)]
    products = {"tpu": [2, 5], "gpu": [2, 3, 4]}[backend]
    assert declared == [2 * n * met * size**2 * B * N * D for n in products]
