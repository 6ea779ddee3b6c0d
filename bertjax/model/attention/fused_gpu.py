"""Attention for GPUs as kernels that Pallas lowers to Triton: scores and probabilities never reach the main memory.

Blocks of queries against blocks of keys with a running softmax (Dao et al. 2022, arXiv 2205.14135; the backward pass in
two kernels, as in Dao 2023, arXiv 2307.08691): one gathers for the keys of a block over all queries, one for the
queries over all keys, so no atomic addition makes the result depend on the order. Only the blocks between the first and
the last that segments and window allow are read.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from bertjax.model.attention.fused_shape import LEAST_MAXIMUM, MASKED_SCORE, Inputs, Shape, block_ranges, product
from bertjax.model.dropout import kept

BLOCK = 64  # queries and keys of a block
HEAD_SIZES = (32, 64, 128)


def _spans(shape: Shape, inputs: Inputs) -> tuple[jax.Array, jax.Array]:
    """int32 [B, blocks, 2]: the first block of keys that a block of queries may see, and one past the last; then the
    same for blocks of keys."""
    (least_q, most_q), (least_k, most_k) = (block_ranges(ids, BLOCK) for ids in inputs.ids)
    meets = (least_q[:, :, None] <= most_k[:, None]) & (least_k[:, None] <= most_q[:, :, None])
    if shape.window is not None:
        q, k = jnp.arange(meets.shape[1])[:, None] * BLOCK, jnp.arange(meets.shape[2])[None] * BLOCK
        meets &= (jnp.abs(q - k) - BLOCK + 1 <= shape.window // 2)[None]

    def span(meets):
        number = meets.shape[2]
        any_, first, last = meets.any(axis=2), meets.argmax(axis=2), number - meets[:, :, ::-1].argmax(axis=2)
        return jnp.where(any_[..., None], jnp.stack([first, last], axis=2), 0).astype(jnp.int32)

    return span(meets), span(meets.swapaxes(1, 2))


def _numbers(start: Any, axis: int) -> jax.Array:
    return start + jax.lax.broadcasted_iota(jnp.int32, (BLOCK, BLOCK), axis)


def _scores(shape: Shape, query, key, query_ids, key_ids, q, k) -> jax.Array:
    """Scaled scores float32 [BLOCK, BLOCK] of the queries from q on and the keys from k on, masked."""
    scores = product(query, key, (1, 1)) * shape.head_size**-0.5
    if shape.segments:
        scores = jnp.where(query_ids[:, None] == key_ids[None, :], scores, MASKED_SCORE)
    if shape.window is not None:
        scores = jnp.where(jnp.abs(_numbers(q, 0) - _numbers(k, 1)) <= shape.window // 2, scores, MASKED_SCORE)
    return scores


def _drop(shape: Shape, keys: tuple[Any, Any], head: Any, q: Any, k: Any) -> Callable[[jax.Array], jax.Array]:
    """What drops the elements of a block of one head's probabilities, numbered as [N, Sq, S]."""
    if not shape.rate:
        return lambda x: x
    element = (head * shape.queries + _numbers(q, 0)) * shape.keys + _numbers(k, 1)
    keep = kept(element.astype(jnp.uint32), shape.rate, *keys)
    return lambda x: jnp.where(keep, x * (1.0 / (1.0 - shape.rate)), 0.0)


def _forward(shape: Shape, first, second, first_head, span, query_ids, key_ids, query, key, value, out, log_total):
    keys, head, q = (first[...], second[...]), first_head[0] + pl.program_id(1), pl.program_id(2) * BLOCK
    of_query, ids = query[...], query_ids[...]

    def add(number, so_far):
        maximum, total, mixed = so_far
        k = number * BLOCK
        at = pl.ds(k, BLOCK)
        scores = _scores(shape, of_query, key[at, :], ids, key_ids[at], q, k)
        now = jnp.maximum(maximum, scores.max(axis=1))
        weights, shrink = jnp.exp(scores - now[:, None]), jnp.exp(maximum - now)
        total = total * shrink + weights.sum(axis=1)
        weights = _drop(shape, keys, head, q, k)(weights).astype(value.dtype)
        return now, total, mixed * shrink[:, None] + product(weights, value[at, :], (1, 0))

    start = jnp.full(BLOCK, LEAST_MAXIMUM), jnp.zeros(BLOCK), jnp.zeros((BLOCK, shape.head_size))
    maximum, total, mixed = jax.lax.fori_loop(span[0], span[1], add, start)
    total = jnp.where(total == 0.0, 1.0, total)
    out[...] = (mixed / total[:, None]).astype(out.dtype)
    log_total[...] = maximum + jnp.log(total)


def _backward_of_queries(
    shape: Shape,
    first,
    second,
    first_head,
    span,
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
    keys, head, q = (first[...], second[...]), first_head[0] + pl.program_id(1), pl.program_id(2) * BLOCK
    of_query, ids, d_mixed, total, mean = query[...], query_ids[...], d_out[...], log_total[...], delta[...]

    def add(number, so_far):
        k = number * BLOCK
        at = pl.ds(k, BLOCK)
        of_key = key[at, :]
        probs = jnp.exp(_scores(shape, of_query, of_key, ids, key_ids[at], q, k) - total[:, None])
        d_probs = _drop(shape, keys, head, q, k)(product(d_mixed, value[at, :], (1, 1)))
        d_scores = (probs * (d_probs - mean[:, None]) * shape.head_size**-0.5).astype(query.dtype)
        return so_far + product(d_scores, of_key, (1, 0))

    gathered = jax.lax.fori_loop(span[0], span[1], add, jnp.zeros((BLOCK, shape.head_size)))
    d_query[...] = gathered.astype(d_query.dtype)


def _backward_of_keys(
    shape: Shape,
    first,
    second,
    first_head,
    span,
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
    keys, head, k = (first[...], second[...]), first_head[0] + pl.program_id(1), pl.program_id(2) * BLOCK
    of_key, of_value, ids = key[...], value[...], key_ids[...]

    def add(number, so_far):
        d_key, d_value = so_far
        q = number * BLOCK
        at = pl.ds(q, BLOCK)
        of_query, d_mixed = query[at, :], d_out[at, :]
        probs = jnp.exp(_scores(shape, of_query, of_key, query_ids[at], ids, q, k) - log_total[at][:, None])
        drop = _drop(shape, keys, head, q, k)
        d_value += product(drop(probs).astype(value.dtype), d_mixed, (0, 0))
        d_probs = drop(product(d_mixed, of_value, (1, 1)))
        d_scores = (probs * (d_probs - delta[at][:, None]) * shape.head_size**-0.5).astype(query.dtype)
        return d_key + product(d_scores, of_query, (0, 0)), d_value

    start = jnp.zeros((BLOCK, shape.head_size))
    gathered = jax.lax.fori_loop(span[0], span[1], add, (start, start))
    d_key[...], d_value[...] = (x.astype(d_key.dtype) for x in gathered)


def _call(
    shape: Shape, kernel: Callable[..., None], inputs: Inputs, span, by_query: bool, more, outputs
) -> list[jax.Array]:
    """Runs a kernel for each row, head and block of queries, or of keys.

    more: arrays [B, Sq, N, D] or [B, N, Sq] beside the inputs. outputs: (shape and dtype, whether of the queries).
    """
    heads = lambda x: x.reshape(*x.shape[:2], shape.heads, shape.head_size)

    def spec(array, in_blocks: bool) -> pl.BlockSpec:
        if array.ndim == 4:
            length = BLOCK if in_blocks else array.shape[1]
            return pl.BlockSpec((None, length, None, array.shape[3]), lambda b, h, i: (b, i if in_blocks else 0, h, 0))
        if array.ndim == 3:
            length = BLOCK if in_blocks else array.shape[2]
            return pl.BlockSpec((None, None, length), lambda b, h, i: (b, h, i if in_blocks else 0))
        length = BLOCK if in_blocks else array.shape[1]
        return pl.BlockSpec((None, length), lambda b, h, i: (b, i if in_blocks else 0))

    query_ids, key_ids = (ids[:, 0] for ids in inputs.ids)
    arrays = [
        *((query_ids, by_query), (key_ids, not by_query)),
        *((heads(inputs.query), by_query), (heads(inputs.key), not by_query), (heads(inputs.value), not by_query)),
        *((x, by_query) for x in more),
    ]
    scalar = pl.BlockSpec((None,), lambda b, h, i: (b,))
    return pl.pallas_call(
        functools.partial(kernel, shape),
        grid=(inputs.query.shape[0], shape.heads, span.shape[1]),
        in_specs=[
            *(scalar, scalar, pl.BlockSpec((1,), lambda b, h, i: (0,))),
            pl.BlockSpec((None, None, 2), lambda b, h, i: (b, i, 0)),
            *(spec(x, blocks) for x, blocks in arrays),
        ],
        out_specs=[spec(x, True) for x in outputs],
        out_shape=outputs,
        interpret=shape.interpret,
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
    )(*inputs.keys, inputs.first_head, span, *(x for x, _ in arrays))


def forward(shape: Shape, inputs: Inputs) -> tuple[jax.Array, Any]:
    """(output [B, Sq, N D], what the backward pass wants of it)."""
    B, Sq, H = inputs.query.shape
    spans = _spans(shape, inputs)
    outputs = [
        jax.ShapeDtypeStruct((B, Sq, shape.heads, shape.head_size), inputs.query.dtype),
        jax.ShapeDtypeStruct((B, shape.heads, Sq), jnp.float32),
    ]
    out, log_total = _call(shape, _forward, inputs, spans[0], True, [], outputs)
    return out.reshape(B, Sq, H), (out, log_total, spans)


def backward(shape: Shape, inputs: Inputs, kept_of_forward: Any, d_out: jax.Array) -> list[jax.Array]:
    """The gradients of query, key and value."""
    out, log_total, (key_span, query_span) = kept_of_forward
    d_out = d_out.reshape(out.shape)
    delta = (out.astype(jnp.float32) * d_out.astype(jnp.float32)).sum(axis=3).transpose(0, 2, 1)
    more = [d_out, log_total, delta]
    of_key = jax.ShapeDtypeStruct((*inputs.key.shape[:2], *out.shape[2:]), inputs.key.dtype)
    of_query = jax.ShapeDtypeStruct(out.shape, inputs.query.dtype)
    (d_query,) = _call(shape, _backward_of_queries, inputs, key_span, True, more, [of_query])
    d_key, d_value = _call(shape, _backward_of_keys, inputs, query_span, False, more, [of_key, of_key])
    return [x.reshape(y.shape) for x, y in zip((d_query, d_key, d_value), inputs[3:], strict=True)]
