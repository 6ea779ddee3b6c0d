"""What one program of the fused TPU kernel does: whole rows, or one block of queries against one block of keys.

Heads lie side by side in the last axis, as the projections write them: no array is transposed. A tile holds as many
heads as fill the 128 lanes.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from bertjax.model.attention.fused_shape import (
    LEAST_MAXIMUM,
    Place,
    Shape,
    dropped,
    kept_elements,
    masked_scores,
    product,
)

LANES = 128  # of the vector unit; also what padded lengths are multiples of


def tile_of(shape: Shape) -> int:
    """Heads computed together: the fewest that fill the lanes, or all of them."""
    fits = (g for g in range(1, shape.heads) if shape.heads % g == 0 and g * shape.width % LANES == 0)
    return next(fits, shape.heads)


def whole_tiles(heads: int, width: int) -> int:
    """The number of heads that is computed: more than there are where these would be one tile of over 256 lanes."""
    tile = max(1, LANES // width)
    return heads if heads % tile == 0 or heads * width <= 2 * LANES else heads + -heads % tile


def lanes_of(shape: Shape) -> int:
    """Width of a tile."""
    return tile_of(shape) * shape.width


def _column(row: jax.Array) -> jax.Array:
    """[1, n] -> [n, 1]."""
    return jnp.broadcast_to(row, (8, row.shape[1])).T[:, :1]


def _row(column: jax.Array) -> jax.Array:
    """[n, 1] -> [1, n]."""
    return jnp.broadcast_to(column, (column.shape[0], LANES)).T[:1]


class Tile:
    """The heads that one program computes."""

    def __init__(self, shape: Shape, first: Any, second: Any, first_head: Any):
        self.shape = shape
        self.keys = first[pl.program_id(0)], second[pl.program_id(0)]
        self.head = first_head[0] + pl.program_id(1) * tile_of(shape)

    def __iter__(self) -> Iterator[tuple[int, slice]]:
        """The number of each head in the tile, and its lanes."""
        W = self.shape.width
        return ((number, slice(number * W, (number + 1) * W)) for number in range(tile_of(self.shape)))

    def place(self, query: Any, key: Any, query_ids: Any, key_ids: Any) -> Place:
        """The first head's scores of the queries from ``query`` on and the keys from ``key`` on."""
        size = query_ids.shape[2], key_ids.shape[2]
        return Place(self.head, query, key, size, (_column(query_ids[0]), key_ids[0]))

    def keep(self, number: int, place: Place) -> jax.Array | None:
        """The dropout mask of a head of the tile."""
        return kept_elements(self.shape, self.keys, place._replace(head=place.head + number))


# Rows in one piece


def whole_forward(shape: Shape, first, second, first_head, query_ids, key_ids, query, key, value, out):
    tile = Tile(shape, first, second, first_head)
    place = tile.place(0, 0, query_ids, key_ids)
    for number, lanes in tile:
        scores = masked_scores(shape, query[0, :, lanes], key[0, :, lanes], place)
        weights = jnp.exp(scores - jnp.maximum(scores.max(axis=1, keepdims=True), LEAST_MAXIMUM))
        total = weights.sum(axis=1, keepdims=True)
        weights = dropped(shape, weights, tile.keep(number, place)).astype(value.dtype)
        mixed = product(weights, value[0, :, lanes], (1, 0)) / jnp.where(total == 0.0, 1.0, total)
        out[0, :, lanes] = mixed.astype(out.dtype)


def whole_backward(
    shape: Shape, first, second, first_head, query_ids, key_ids, query, key, value, d_out, d_query, d_key, d_value
):
    tile = Tile(shape, first, second, first_head)
    place = tile.place(0, 0, query_ids, key_ids)
    for number, lanes in tile:
        scores = masked_scores(shape, query[0, :, lanes], key[0, :, lanes], place)
        probs = jnp.exp(scores - jnp.maximum(scores.max(axis=1, keepdims=True), LEAST_MAXIMUM))
        total = probs.sum(axis=1, keepdims=True)
        probs = probs / jnp.where(total == 0.0, 1.0, total)
        keep, d_mixed = tile.keep(number, place), d_out[0, :, lanes]
        of_value = product(dropped(shape, probs, keep).astype(value.dtype), d_mixed, (0, 0))
        d_value[0, :, lanes] = of_value.astype(value.dtype)
        d_probs = dropped(shape, product(d_mixed, value[0, :, lanes], (1, 1)), keep)
        d_scores = probs * (d_probs - (probs * d_probs).sum(axis=1, keepdims=True)) * shape.head_size**-0.5
        d_scores = d_scores.astype(query.dtype)
        d_query[0, :, lanes] = product(d_scores, key[0, :, lanes], (1, 0)).astype(query.dtype)
        d_key[0, :, lanes] = product(d_scores, query[0, :, lanes], (0, 0)).astype(query.dtype)


# Rows block by block: the last axis of the grid runs over all that a block of the axis before may meet


def _meets(begin: Any, end: Any) -> jax.Array:
    """Whether the program's two blocks do; ``begin`` and ``end`` say it for each block of the third axis."""
    row, fixed, moving = pl.program_id(0), pl.program_id(2), pl.program_id(3)
    return (begin[row, fixed] <= moving) & (moving < end[row, fixed])


def block_forward(
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
    out,
    log_total,
    maximum,
    total,
    mixed,
):
    q, k, tile = pl.program_id(2), pl.program_id(3), Tile(shape, first, second, first_head)
    meets = _meets(begin, end)

    @pl.when(k == 0)
    def start():
        maximum[...] = jnp.full(maximum.shape, LEAST_MAXIMUM, jnp.float32)
        total[...] = jnp.zeros(total.shape, jnp.float32)
        mixed[...] = jnp.zeros(mixed.shape, jnp.float32)

    @pl.when(meets)
    def add():
        place = tile.place(q * query_ids.shape[2], k * key_ids.shape[2], query_ids, key_ids)
        for number, lanes in tile:
            scores = masked_scores(shape, query[0, :, lanes], key[0, :, lanes], place)
            before = maximum[number, :, :1]
            now = jnp.maximum(scores.max(axis=1, keepdims=True), before)
            weights, shrink = jnp.exp(scores - now), jnp.exp(before - now)
            maximum[number] = jnp.broadcast_to(now, maximum.shape[1:])
            summed = total[number, :, :1] * shrink + weights.sum(axis=1, keepdims=True)
            total[number] = jnp.broadcast_to(summed, total.shape[1:])
            weights = dropped(shape, weights, tile.keep(number, place)).astype(value.dtype)
            mixed[:, lanes] = mixed[:, lanes] * shrink + product(weights, value[0, :, lanes], (1, 0))

    @pl.when(k == pl.num_programs(3) - 1)
    def finish():
        for number, lanes in tile:
            summed = total[number, :, :1]
            summed = jnp.where(summed == 0.0, 1.0, summed)
            out[0, :, lanes] = (mixed[:, lanes] / summed).astype(out.dtype)
            log_total[0, number] = _row(maximum[number, :, :1] + jnp.log(summed))


def block_backward(
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
    d_key,
    d_value,
    of_key,
    of_value,
    of_query=None,
):
    """of_query: where the gradient of the queries gathers in float32; None: in ``d_query``, which is float32 itself."""
    k, q, tile = pl.program_id(2), pl.program_id(3), Tile(shape, first, second, first_head)
    meets = _meets(begin, end)
    rows = pl.ds(q * query_ids.shape[2], query_ids.shape[2])

    def gather(lanes, x):
        if of_query is None:
            d_query[0, rows, lanes] += x
        else:
            of_query[rows, lanes] += x

    @pl.when(q == 0)
    def start():
        of_key[...] = jnp.zeros(of_key.shape, jnp.float32)
        of_value[...] = jnp.zeros(of_value.shape, jnp.float32)

    @pl.when(k == 0)
    def start_queries():
        zeros = jnp.zeros((query_ids.shape[2], d_query.shape[2]), jnp.float32)
        if of_query is None:
            d_query[0, rows] = zeros
        else:
            of_query[rows] = zeros

    @pl.when(meets)
    def add():
        place = tile.place(q * query_ids.shape[2], k * key_ids.shape[2], query_ids, key_ids)
        for number, lanes in tile:
            scores = masked_scores(shape, query[0, :, lanes], key[0, :, lanes], place)
            probs = jnp.exp(scores - _column(log_total[0, number]))
            keep, d_mixed = tile.keep(number, place), d_out[0, :, lanes]
            of_value[:, lanes] += product(dropped(shape, probs, keep).astype(value.dtype), d_mixed, (0, 0))
            d_probs = dropped(shape, product(d_mixed, value[0, :, lanes], (1, 1)), keep)
            d_scores = (probs * (d_probs - _column(delta[0, number])) * shape.head_size**-0.5).astype(query.dtype)
            gather(lanes, product(d_scores, key[0, :, lanes], (1, 0)))
            of_key[:, lanes] += product(d_scores, query[0, :, lanes], (0, 0))

    @pl.when(q == pl.num_programs(3) - 1)
    def finish():
        d_key[0] = of_key[...].astype(d_key.dtype)
        d_value[0] = of_value[...].astype(d_value.dtype)

    if of_query is not None:

        @pl.when(k == pl.num_programs(2) - 1)
        def finish_queries():
            d_query[0, rows] = of_query[rows].astype(d_query.dtype)
