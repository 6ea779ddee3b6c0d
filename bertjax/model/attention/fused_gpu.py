"""Attention for GPUs as kernels that Pallas lowers to Triton: scores and probabilities never reach the main memory.

Blocks of queries against blocks of keys with a running softmax (Dao et al. 2022, arXiv 2205.14135; the backward pass in
two kernels, as in Dao 2023, arXiv 2307.08691): one gathers for the keys of a block over all queries, one for the
queries over all keys, so no atomic addition makes the result depend on the order. Only the blocks between the first and
the last that segments and window allow are read.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from bertjax.model.attention.fused_shape import (
    LEAST_MAXIMUM,
    Inputs,
    Place,
    Shape,
    declared_work,
    dropped,
    kept_elements,
    masked_scores,
    product,
    spans,
)


def block_size(inputs: Inputs) -> int:
    """Queries and keys of a block. float32 products are not done by tensor cores, and larger blocks of them spill."""
    return 32 if inputs.query.dtype == jnp.float32 else 64


def _warps(shape: Shape, inputs: Inputs) -> int:
    """What a program's accumulators fit in without spilling, as ptxas reports for sm_80 and sm_90."""
    return 8 if shape.width >= 128 or inputs.query.dtype == jnp.float32 else 4


def _place(head: Any, q: Any, k: Any, query_ids: jax.Array, key_ids: jax.Array) -> Place:
    size = query_ids.shape[0], key_ids.shape[0]
    return Place(head, q, k, size, (query_ids[:, None], key_ids[None, :]))


def _forward(
    shape: Shape, first, second, first_head, begin, end, query_ids, key_ids, query, key, value, out, log_total
):
    keys, head, block = (first[...], second[...]), first_head[0] + pl.program_id(1), query.shape[0]
    q = pl.program_id(0) * block
    of_query, ids = query[...], query_ids[...]

    def add(number, so_far):
        maximum, total, mixed = so_far
        at = pl.ds(number * block, block)
        place = _place(head, q, number * block, ids, key_ids[at])
        scores = masked_scores(shape, of_query, key[at, :], place)
        now = jnp.maximum(maximum, scores.max(axis=1))
        weights, shrink = jnp.exp(scores - now[:, None]), jnp.exp(maximum - now)
        total = total * shrink + weights.sum(axis=1)
        weights = dropped(shape, weights, kept_elements(shape, keys, place)).astype(value.dtype)
        return now, total, mixed * shrink[:, None] + product(weights, value[at, :], (1, 0))

    start = jnp.full(block, LEAST_MAXIMUM), jnp.zeros(block), jnp.zeros((block, shape.width))
    maximum, total, mixed = jax.lax.fori_loop(begin[...], end[...], add, start)
    total = jnp.where(total == 0.0, 1.0, total)
    out[...] = (mixed / total[:, None]).astype(out.dtype)
    log_total[...] = maximum + jnp.log(total)


def _backward_of_queries(
    shape: Shape,
    first,
    second,
    first_head,
    begin,
    end,
    query_ids,
    key_ids,
    query,
    key,
    value,
    d_out,
    log_total,
    delta,
    d_query,
):
    keys, head, block = (first[...], second[...]), first_head[0] + pl.program_id(1), query.shape[0]
    q = pl.program_id(0) * block
    of_query, ids, d_mixed, total, mean = query[...], query_ids[...], d_out[...], log_total[...], delta[...]

    def add(number, so_far):
        at = pl.ds(number * block, block)
        place = _place(head, q, number * block, ids, key_ids[at])
        of_key = key[at, :]
        probs = jnp.exp(masked_scores(shape, of_query, of_key, place) - total[:, None])
        d_probs = dropped(shape, product(d_mixed, value[at, :], (1, 1)), kept_elements(shape, keys, place))
        d_scores = (probs * (d_probs - mean[:, None]) * shape.head_size**-0.5).astype(query.dtype)
        return so_far + product(d_scores, of_key, (1, 0))

    gathered = jax.lax.fori_loop(begin[...], end[...], add, jnp.zeros((block, shape.width)))
    d_query[...] = gathered.astype(d_query.dtype)


def _backward_of_keys(
    shape: Shape,
    first,
    second,
    first_head,
    begin,
    end,
    query_ids,
    key_ids,
    query,
    key,
    value,
    d_out,
    log_total,
    delta,
    d_key,
    d_value,
):
    keys, head, block = (first[...], second[...]), first_head[0] + pl.program_id(1), key.shape[0]
    k = pl.program_id(0) * block
    of_key, of_value, ids = key[...], value[...], key_ids[...]

    def add(number, so_far):
        d_key, d_value = so_far
        at = pl.ds(number * block, block)
        of_query, d_mixed = query[at, :], d_out[at, :]
        # Keys by queries: then neither gradient needs a transposed factor.
        place = Place(head, number * block, k, (block, block), (ids[:, None], query_ids[at][None, :]), (1, 0))
        probs = jnp.exp(masked_scores(shape, of_key, of_query, place) - log_total[at][None, :])
        keep = kept_elements(shape, keys, place)
        d_value += product(dropped(shape, probs, keep).astype(value.dtype), d_mixed, (1, 0))
        d_probs = dropped(shape, product(of_value, d_mixed, (1, 1)), keep)
        d_scores = (probs * (d_probs - delta[at][None, :]) * shape.head_size**-0.5).astype(query.dtype)
        return d_key + product(d_scores, of_query, (1, 0)), d_value

    start = jnp.zeros((block, shape.width))
    gathered = jax.lax.fori_loop(begin[...], end[...], add, (start, start))
    d_key[...], d_value[...] = (x.astype(d_key.dtype) for x in gathered)


def _call(
    shape: Shape,
    inputs: Inputs,
    kernel: Callable[..., None],
    products: int,
    moving: int,
    of_queries: list[jax.Array],
    outputs: list[jax.ShapeDtypeStruct],
) -> list[jax.Array]:
    """Runs a kernel for each row, head and block of queries (moving 1: over the keys) or of keys (moving 0).

    products: see ``declared_work``. of_queries: arrays [B, Sq, N, W] or [B, N, Sq] beside the inputs.
    """
    block = block_size(inputs)
    heads = lambda x: x.reshape(*x.shape[:2], shape.heads, shape.width)

    def spec(array: Any, in_blocks: bool) -> pl.BlockSpec:
        length = lambda axis: block if in_blocks else array.shape[axis]
        if array.ndim == 4:
            size = (None, length(1), None, array.shape[3])
            return pl.BlockSpec(size, lambda i, h, b: (b, i if in_blocks else 0, h, 0))
        if array.ndim == 3:
            return pl.BlockSpec((None, None, length(2)), lambda i, h, b: (b, h, i if in_blocks else 0))
        return pl.BlockSpec((None, length(1)), lambda i, h, b: (b, i if in_blocks else 0))

    # Each with what numbers its blocks: queries (0) or keys (1).
    query_ids, key_ids = (ids[:, 0] for ids in inputs.ids)
    arrays = [
        *((query_ids, 0), (key_ids, 1)),
        *((heads(inputs.query), 0), (heads(inputs.key), 1), (heads(inputs.value), 1)),
        *((x, 0) for x in of_queries),
    ]
    begin, end = spans(shape, inputs, (block, block), of=1 - moving)
    a_row, a_block = pl.BlockSpec((None,), lambda i, h, b: (b,)), pl.BlockSpec((None, None), lambda i, h, b: (b, i))
    moved = sum(math.prod(x.shape) * x.dtype.itemsize for x in [*(x for x, _ in arrays), *outputs])
    return pl.pallas_call(
        functools.partial(kernel, shape),
        # The first axis runs fastest: the blocks of one head, side by side, read each other's arrays from the L2 cache.
        grid=(begin.shape[1], shape.heads, inputs.query.shape[0]),
        in_specs=[
            *(a_row, a_row, pl.BlockSpec((1,), lambda i, h, b: (0,)), a_block, a_block),
            *(spec(x, by != moving) for x, by in arrays),
        ],
        out_specs=[spec(x, True) for x in outputs],
        out_shape=outputs,
        interpret=shape.interpret,
        compiler_params=plgpu.CompilerParams(num_warps=_warps(shape, inputs), num_stages=2),
        name=f"fused_attention{kernel.__name__}",
        **declared_work(shape, inputs, products, (block, block), moved),
    )(*inputs.keys, inputs.first_head, begin, end, *(x for x, _ in arrays))


def forward(shape: Shape, inputs: Inputs) -> tuple[jax.Array, Any]:
    """(output [B, Sq, N W], what the backward pass wants of it)."""
    B, Sq, H = inputs.query.shape
    outputs = [
        jax.ShapeDtypeStruct((B, Sq, shape.heads, shape.width), inputs.query.dtype),
        jax.ShapeDtypeStruct((B, shape.heads, Sq), jnp.float32),
    ]
    out, log_total = _call(shape, inputs, _forward, 2, 1, [], outputs)
    return out.reshape(B, Sq, H), (out, log_total)


def backward(shape: Shape, inputs: Inputs, kept_of_forward: Any, d_out: jax.Array) -> list[jax.Array]:
    """The gradients of query, key and value."""
    out, log_total = kept_of_forward
    d_out = d_out.reshape(out.shape)
    delta = (out.astype(jnp.float32) * d_out.astype(jnp.float32)).sum(axis=3).transpose(0, 2, 1)
    of_queries = [d_out, log_total, delta]
    of_query = jax.ShapeDtypeStruct(out.shape, inputs.query.dtype)
    of_key = jax.ShapeDtypeStruct((*inputs.key.shape[:2], *out.shape[2:]), inputs.key.dtype)
    (d_query,) = _call(shape, inputs, _backward_of_queries, 3, 1, of_queries, [of_query])
    d_key, d_value = _call(shape, inputs, _backward_of_keys, 4, 0, of_queries, [of_key, of_key])
    return [x.reshape(y.shape) for x, y in zip((d_query, d_key, d_value), inputs[3:], strict=True)]
