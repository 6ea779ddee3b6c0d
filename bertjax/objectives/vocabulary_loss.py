"""Cross entropy over a vocabulary, from the inputs of the last product instead of its logits.

Up to ``MOST_WHOLE`` ids the logits [T, V] exist once, in float32: written by the product, read by the reductions and by
the pass that turns them into their gradient. Beyond that they exist for ``BLOCK_IDS`` ids at a time, and the backward
pass makes them again: a fourth product on top of three, so that 256k ids take no more memory than 32k. The loss and
its gradient follow Wijmans et al. 2024, arXiv 2411.09009, without their kernel.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bertjax.model.heads import VocabularyProjection
from bertjax.model.precision import Precision

# 480 MiB of temporaries on a GPU for 1,280 tokens, where blocks take 390 and twice the traffic; at 256k ids it is 1,920
# against 680 (tests/benchmarks/vocabulary_loss_memory.py).
MOST_WHOLE = 65_536
BLOCK_IDS = 32_768
# A block takes as many rows from each of this many parts of the table, so that every device of a divided table has
# its share of every block. Padded vocabularies are multiples of 8 times it.
PARTS = 16


def vocabulary_cross_entropy(
    projection: VocabularyProjection, labels: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """labels int [...], weights float [...], of the leading shape of ``projection.features`` -> (sum of losses in nats,
    sum of hits), float32 scalars: those of ``losses.weighted_cross_entropy`` on ``projection.logits()``."""
    token_losses = _whole if projection.table.shape[0] <= MOST_WHOLE else _in_blocks
    features = projection.features.reshape(-1, projection.features.shape[-1])
    labels, weights = jnp.asarray(labels, jnp.int32).reshape(-1), weights.reshape(-1)
    losses, hits = token_losses(projection.precision, features, projection.table, projection.bias, labels)
    return jnp.sum(losses * weights), jnp.sum(hits * weights)


def _is_label(labels: jax.Array, ids: jax.Array) -> jax.Array:
    """labels [T], ids [...] -> bool [T, ...]. A comparison with ids fuses into any pass over the logits."""
    return labels.reshape(-1, *[1] * ids.ndim) == ids[None]


def _gradient(logits, total, labels, ids, cotangent) -> jax.Array:
    """The gradient of the losses with respect to logits [T, ...], float32; total [T]: the logsumexp over all ids."""
    of_tokens = lambda x: x.reshape(-1, *[1] * ids.ndim)
    label = _is_label(labels, ids).astype(jnp.float32)
    return (jnp.exp(logits - of_tokens(total)) - label) * of_tokens(cotangent)


# ``(precision, features [T, H], table [V, H], bias [V], labels [T]) -> (losses, hits)``, float32 [T].
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _whole(precision: Precision, features, table, bias, labels):
    return _whole_forward(precision, features, table, bias, labels)[0]


def _whole_forward(precision, features, table, bias, labels):
    logits = precision.product("th,vh->tv", features, table, result=jnp.float32) + bias[None]
    ids = jnp.arange(len(table), dtype=jnp.int32)
    maximum = logits.max(axis=1)
    at_label = jnp.where(_is_label(labels, ids), logits, 0.0).sum(axis=1)
    total = maximum + jnp.log(jnp.exp(logits - maximum[:, None]).sum(axis=1))
    hits = (at_label >= maximum).astype(jnp.float32)
    return (total - at_label, hits), (features, table, logits, total, labels)


def _whole_backward(precision, residuals, cotangents):
    features, table, logits, total, labels = residuals
    ids = jnp.arange(len(table), dtype=jnp.int32)
    d_logits = _gradient(logits, total, labels, ids, cotangents[0])
    d_features = precision.product("tv,vh->th", d_logits, table, result=features.dtype)
    d_table = precision.product("tv,th->vh", d_logits, features, result=table.dtype)
    return d_features, d_table, d_logits.sum(axis=0), None


_whole.defvjp(_whole_forward, _whole_backward)


class _Running(NamedTuple):
    """Of the ids so far, float32 [T]: the largest logit, the sum of exp(logit - maximum), the label's logit."""

    maximum: jax.Array
    total: jax.Array
    at_label: jax.Array


def _over_blocks(vocabulary: int, step: Callable, start):
    """``step(so far, first row of each part, rows of each part)``, block after block of the ids."""
    rows, block = vocabulary // PARTS, BLOCK_IDS // PARTS
    so_far = start
    if rows >= block:
        so_far = jax.lax.fori_loop(0, rows // block, lambda number, so_far: step(so_far, number * block, block), start)
    return step(so_far, rows - rows % block, rows % block) if rows % block else so_far


def _parts(x: jax.Array) -> jax.Array:
    """[V, ...] -> [PARTS, V / PARTS, ...]"""
    return x.reshape(PARTS, -1, *x.shape[1:])


def _block_ids(vocabulary: int, first, rows: int) -> jax.Array:
    """int32 [PARTS, rows]"""
    of_parts = jnp.arange(PARTS, dtype=jnp.int32) * (vocabulary // PARTS)
    return of_parts[:, None] + first + jnp.arange(rows, dtype=jnp.int32)[None]


def _block_logits(precision, features, table, bias, first, rows: int) -> tuple[jax.Array, jax.Array]:
    """(logits float32 [T, PARTS, rows], their rows of the table [PARTS, rows, H])"""
    table, bias = (jax.lax.dynamic_slice_in_dim(x, first, rows, axis=1) for x in (table, bias))
    return precision.product("th,pvh->tpv", features, table, result=jnp.float32) + bias[None], table


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _in_blocks(precision: Precision, features, table, bias, labels):
    return _blocks_forward(precision, features, table, bias, labels)[0]


def _blocks_forward(precision, features, table, bias, labels):
    parts, bias = _parts(table.astype(precision.operands)), _parts(bias)

    def step(so_far: _Running, first, rows: int) -> _Running:
        logits, _ = _block_logits(precision, features, parts, bias, first, rows)
        maximum = jnp.maximum(so_far.maximum, logits.max(axis=(1, 2)))
        total = jnp.exp(logits - maximum[:, None, None]).sum(axis=(1, 2))
        label = _is_label(labels, _block_ids(len(table), first, rows))
        at_label = so_far.at_label + jnp.where(label, logits, 0.0).sum(axis=(1, 2))
        return _Running(maximum, total + so_far.total * jnp.exp(so_far.maximum - maximum), at_label)

    zeros = jnp.zeros(len(labels))
    # Below every logit, those of the padding too, and finite: their difference is a number.
    found = _over_blocks(len(table), step, _Running(jnp.full(len(labels), -2e30), zeros, zeros))
    total = found.maximum + jnp.log(found.total)
    hits = (found.at_label >= found.maximum).astype(jnp.float32)
    return (total - found.at_label, hits), (features, table, parts, bias, total, labels)


def _blocks_backward(precision, residuals, cotangents):
    features, table, parts, bias, total, labels = residuals

    def step(so_far, first, rows: int):
        d_features, d_table, d_bias = so_far
        logits, of_block = _block_logits(precision, features, parts, bias, first, rows)
        d_logits = _gradient(logits, total, labels, _block_ids(len(table), first, rows), cotangents[0])
        d_rows = precision.product("tpv,th->pvh", d_logits, features, result=jnp.float32)
        return (
            d_features + precision.product("tpv,pvh->th", d_logits, of_block, result=jnp.float32),
            jax.lax.dynamic_update_slice_in_dim(d_table, d_rows, first, axis=1),
            jax.lax.dynamic_update_slice_in_dim(d_bias, d_logits.sum(axis=0), first, axis=1),
        )

    start = jnp.zeros(features.shape), jnp.zeros(parts.shape), jnp.zeros(bias.shape)
    d_features, d_table, d_bias = _over_blocks(len(table), step, start)
    return d_features.astype(features.dtype), d_table.reshape(table.shape).astype(table.dtype), d_bias.reshape(-1), None


_in_blocks.defvjp(_blocks_forward, _blocks_backward)
