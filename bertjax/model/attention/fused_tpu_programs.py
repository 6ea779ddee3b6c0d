"""What one program of the fused TPU kernel does: whole rows, or one block of queries against one block of keys.

Heads lie side by side in the last axis, as the projections write them: no array is transposed. A tile holds as many
heads as fill the 128 lanes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from bertjax.model.attention.fused_shape import LEAST_MAXIMUM, MASKED_SCORE, Shape, product
from bertjax.model.dropout import kept

LANES = 128  # of the vector unit; also what padded lengths are multiples of


def tile_of(shape: Shape) -> int:
    """Heads computed together: the fewest that fill the lanes, or all of them."""
    fits = (g for g in range(1, shape.heads) if shape.heads % g == 0 and g * shape.head_size % LANES == 0)
    return next(fits, shape.heads)


def lanes_of(shape: Shape) -> int:
    """Width of a tile."""
    return tile_of(shape) * shape.head_size


class Place(NamedTuple):
    """A block of scores inside a kernel: the first query and key, the size, and the ids as a column and as a row."""

    query: Any
    key: Any
    size: tuple[int, int]
    ids: tuple[jax.Array, jax.Array] | None


def _column(row: jax.Array) -> jax.Array:
    """[1, n] -> [n, 1]."""
    return jnp.broadcast_to(row, (8, row.shape[1])).T[:, :1]


def _row(column: jax.Array) -> jax.Array:
    """[n, 1] -> [1, n]."""
    return jnp.broadcast_to(column, (column.shape[0], LANES)).T[:1]


def _numbers(place: Place, axis: int) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, place.size, axis) + place[axis]


def _place(shape: Shape, query: Any, key: Any, query_ids: Any, key_ids: Any) -> Place:
    ids = (_column(query_ids[0]), key_ids[0]) if shape.segments else None
    return Place(query, key, (query_ids.shape[2], key_ids.shape[2]), ids)


def _scores(shape: Shape, query: jax.Array, key: jax.Array, place: Place) -> jax.Array:
    """Scaled scores float32 [q, k]; those of a query and a key that may not meet are ``MASKED_SCORE``."""
    scores = product(query, key, (1, 1)) * shape.head_size**-0.5
    if place.ids is not None:
        scores = jnp.where(place.ids[0] == place.ids[1], scores, MASKED_SCORE)
    if shape.window is not None:
        near = jnp.abs(_numbers(place, 0) - _numbers(place, 1)) <= shape.window // 2
        scores = jnp.where(near, scores, MASKED_SCORE)
    return scores


class Tile:
    """The heads that one call of a kernel computes: their lanes and their dropout masks."""

    def __init__(self, shape: Shape, first: Any, second: Any, first_head: Any):
        self.shape = shape
        self.keys = first[pl.program_id(0)], second[pl.program_id(0)]
        self.head = first_head[0] + pl.program_id(1) * tile_of(shape)

    def __iter__(self):
        D = self.shape.head_size
        return ((number, slice(number * D, (number + 1) * D)) for number in range(tile_of(self.shape)))

    def keep(self, number: int, place: Place) -> jax.Array | None:
        """The mask of a head's probabilities, whose elements are numbered as [N, Sq, S]."""
        if not self.shape.rate:
            return None
        row = (self.head + number) * self.shape.queries + _numbers(place, 0)
        return kept((row * self.shape.keys + _numbers(place, 1)).astype(jnp.uint32), self.shape.rate, *self.keys)

    def drop(self, x: jax.Array, keep: jax.Array | None) -> jax.Array:
        return x if keep is None else jnp.where(keep, x * (1.0 / (1.0 - self.shape.rate)), 0.0)


# Rows in one piece


def whole_forward(shape: Shape, first, second, first_head, query_ids, key_ids, query, key, value, out):
    place = _place(shape, 0, 0, query_ids, key_ids)
    tile = Tile(shape, first, second, first_head)
    for number, lanes in tile:
        scores = _scores(shape, query[0, :, lanes], key[0, :, lanes], place)
        weights = jnp.exp(scores - jnp.maximum(scores.max(axis=1, keepdims=True), LEAST_MAXIMUM))
        total = weights.sum(axis=1, keepdims=True)
        weights = tile.drop(weights, tile.keep(number, place)).astype(value.dtype)
        mixed = product(weights, value[0, :, lanes], (1, 0)) / jnp.where(total == 0.0, 1.0, total)
        out[0, :, lanes] = mixed.astype(out.dtype)


def whole_backward(
    shape: Shape, first, second, first_head, query_ids, key_ids, query, key, value, d_out, d_query, d_key, d_value
):
    place = _place(shape, 0, 0, query_ids, key_ids)
    tile = Tile(shape, first, second, first_head)
    for number, lanes in tile:
        scores = _scores(shape, query[0, :, lanes], key[0, :, lanes], place)
        probs = jnp.exp(scores - jnp.maximum(scores.max(axis=1, keepdims=True), LEAST_MAXIMUM))
        total = probs.sum(axis=1, keepdims=True)
        probs = probs / jnp.where(total == 0.0, 1.0, total)
        keep, d_mixed = tile.keep(number, place), d_out[0, :, lanes]
        d_value[0, :, lanes] = product(tile.drop(probs, keep).astype(value.dtype), d_mixed, (0, 0)).astype(value.dtype)
        d_probs = tile.drop(product(d_mixed, value[0, :, lanes], (1, 1)), keep)
        d_scores = probs * (d_probs - (probs * d_probs).sum(axis=1, keepdims=True)) * shape.head_size**-0.5
        d_scores = d_scores.astype(query.dtype)
        d_query[0, :, lanes] = product(d_scores, key[0, :, lanes], (1, 0)).astype(query.dtype)
        d_key[0, :, lanes] = product(d_scores, query[0, :, lanes], (0, 0)).astype(query.dtype)


# Rows block by block


def _empty(shape: Shape, ranges: Any, q: Any, k: Any, size: tuple[int, int]) -> jax.Array:
    """Whether no query of a block may see a key of another: their ids or their places do not meet."""
    row, (least_q, most_q, least_k, most_k) = pl.program_id(0), ranges
    apart = jnp.bool_(False)
    if shape.segments:
        apart = (most_q[row, q] < least_k[row, k]) | (most_k[row, k] < least_q[row, q])
    if shape.window is not None:
        reach = shape.window // 2
        after, before = k * size[1] - (q + 1) * size[0] + 1, q * size[0] - (k + 1) * size[1] + 1
        apart = apart | (after > reach) | (before > reach)
    return apart


def block_forward(shape: Shape, first, second, first_head, *refs):
    ranges, (query_ids, key_ids, query, key, value, out, log_total, maximum, total, mixed) = refs[:4], refs[4:]
    q, k = pl.program_id(2), pl.program_id(3)
    size = (query_ids.shape[2], key_ids.shape[2])
    tile = Tile(shape, first, second, first_head)

    @pl.when(k == 0)
    def start():
        maximum[...] = jnp.full(maximum.shape, LEAST_MAXIMUM, jnp.float32)
        total[...] = jnp.zeros(total.shape, jnp.float32)
        mixed[...] = jnp.zeros(mixed.shape, jnp.float32)

    @pl.when(~_empty(shape, ranges, q, k, size))
    def add():
        place = _place(shape, q * size[0], k * size[1], query_ids, key_ids)
        for number, lanes in tile:
            scores = _scores(shape, query[0, :, lanes], key[0, :, lanes], place)
            before = maximum[number, :, :1]
            now = jnp.maximum(scores.max(axis=1, keepdims=True), before)
            weights, shrink = jnp.exp(scores - now), jnp.exp(before - now)
            maximum[number] = jnp.broadcast_to(now, maximum.shape[1:])
            summed = total[number, :, :1] * shrink + weights.sum(axis=1, keepdims=True)
            total[number] = jnp.broadcast_to(summed, total.shape[1:])
            weights = tile.drop(weights, tile.keep(number, place)).astype(value.dtype)
            mixed[:, lanes] = mixed[:, lanes] * shrink + product(weights, value[0, :, lanes], (1, 0))

    @pl.when(k == pl.num_programs(3) - 1)
    def finish():
        for number in range(tile_of(shape)):
            lanes = slice(number * shape.head_size, (number + 1) * shape.head_size)
            summed = total[number, :, :1]
            summed = jnp.where(summed == 0.0, 1.0, summed)
            out[0, :, lanes] = (mixed[:, lanes] / summed).astype(out.dtype)
            log_total[0, number] = _row(maximum[number, :, :1] + jnp.log(summed))


def block_backward(shape: Shape, first, second, first_head, *refs):
    ranges, refs = refs[:4], refs[4:]
    (
        query_ids,
        key_ids,
        query,
        key,
        value,
        d_out,
        log_total,
        delta,
        d_query,
        d_key,
        d_value,
        of_query,
        of_key,
        of_value,
    ) = refs
    k, q = pl.program_id(2), pl.program_id(3)
    size = (query_ids.shape[2], key_ids.shape[2])
    tile = Tile(shape, first, second, first_head)
    rows = pl.ds(q * size[0], size[0])

    @pl.when(q == 0)
    def start():
        of_key[...] = jnp.zeros(of_key.shape, jnp.float32)
        of_value[...] = jnp.zeros(of_value.shape, jnp.float32)

    @pl.when(k == 0)
    def start_queries():
        of_query[rows] = jnp.zeros((size[0], of_query.shape[1]), jnp.float32)

    @pl.when(~_empty(shape, ranges, q, k, size))
    def add():
        place = _place(shape, q * size[0], k * size[1], query_ids, key_ids)
        for number, lanes in tile:
            scores = _scores(shape, query[0, :, lanes], key[0, :, lanes], place)
            probs = jnp.exp(scores - _column(log_total[0, number]))
            keep, d_mixed = tile.keep(number, place), d_out[0, :, lanes]
            of_value[:, lanes] += product(tile.drop(probs, keep).astype(value.dtype), d_mixed, (0, 0))
            d_probs = tile.drop(product(d_mixed, value[0, :, lanes], (1, 1)), keep)
            d_scores = (probs * (d_probs - _column(delta[0, number])) * shape.head_size**-0.5).astype(query.dtype)
            of_query[rows, lanes] += product(d_scores, key[0, :, lanes], (1, 0))
            of_key[:, lanes] += product(d_scores, query[0, :, lanes], (0, 0))

    @pl.when(q == pl.num_programs(3) - 1)
    def finish():
        d_key[0] = of_key[...].astype(d_key.dtype)
        d_value[0] = of_value[...].astype(d_value.dtype)

    @pl.when(k == pl.num_programs(2) - 1)
    def finish_queries():
        d_query[0, rows] = of_query[rows].astype(d_query.dtype)
