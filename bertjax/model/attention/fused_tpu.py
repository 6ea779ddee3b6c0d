"""Attention for TPUs as one kernel: scores, segments, window, softmax and dropout stay on the chip.

Heads lie side by side in the last axis, as the projections write them: no array is transposed. A tile holds as many
heads as fill the 128 lanes. Rows of up to ``WHOLE_ROW`` keys are computed in one piece, and the backward pass makes the
probabilities again from query and key. Longer rows go block by block (Dao et al. 2022, arXiv 2205.14135, with the
running softmax of Milakov & Gimelshein 2018, arXiv 1805.02867), and blocks that segments or the window leave empty are
skipped.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from bertjax.model.attention.fused_shape import LEAST_MAXIMUM, MASKED_SCORE, Inputs, Shape, block_ranges, product
from bertjax.model.dropout import kept

LANES = 128  # also what padded lengths are multiples of
WHOLE_ROW = 512  # positions; one head's float32 scores are then 1 MiB
BLOCK_SIZES = (512, 384, 256, LANES)  # of longer rows: the first that divides the length


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


class _Tile:
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


def _whole_forward(shape: Shape, first, second, first_head, query_ids, key_ids, query, key, value, out):
    place = _place(shape, 0, 0, query_ids, key_ids)
    tile = _Tile(shape, first, second, first_head)
    for number, lanes in tile:
        scores = _scores(shape, query[0, :, lanes], key[0, :, lanes], place)
        weights = jnp.exp(scores - jnp.maximum(scores.max(axis=1, keepdims=True), LEAST_MAXIMUM))
        total = weights.sum(axis=1, keepdims=True)
        weights = tile.drop(weights, tile.keep(number, place)).astype(value.dtype)
        mixed = product(weights, value[0, :, lanes], (1, 0)) / jnp.where(total == 0.0, 1.0, total)
        out[0, :, lanes] = mixed.astype(out.dtype)


def _whole_backward(
    shape: Shape, first, second, first_head, query_ids, key_ids, query, key, value, d_out, d_query, d_key, d_value
):
    place = _place(shape, 0, 0, query_ids, key_ids)
    tile = _Tile(shape, first, second, first_head)
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


def _block_forward(shape: Shape, first, second, first_head, *refs):
    ranges, (query_ids, key_ids, query, key, value, out, log_total, maximum, total, mixed) = refs[:4], refs[4:]
    q, k = pl.program_id(2), pl.program_id(3)
    size = (query_ids.shape[2], key_ids.shape[2])
    tile = _Tile(shape, first, second, first_head)

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


def _block_backward(shape: Shape, first, second, first_head, *refs):
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
    tile = _Tile(shape, first, second, first_head)
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


# Calls


class Grid(NamedTuple):
    """Where a program of the grid finds its blocks. q_axis, k_axis: axes that number the blocks; None: one block."""

    sizes: tuple[int, int]
    q_axis: int | None = None
    k_axis: int | None = None

    def _at(self, axis: int | None, index: tuple[Any, ...]) -> Any:
        return 0 if axis is None else index[axis]

    def queries(self, lanes: int) -> pl.BlockSpec:
        return pl.BlockSpec((1, self.sizes[0], lanes), lambda *i: (i[0], self._at(self.q_axis, i), i[1]))

    def keys(self, lanes: int) -> pl.BlockSpec:
        return pl.BlockSpec((1, self.sizes[1], lanes), lambda *i: (i[0], self._at(self.k_axis, i), i[1]))

    def ids(self) -> list[pl.BlockSpec]:
        return [
            pl.BlockSpec((1, 1, self.sizes[0]), lambda *i: (i[0], 0, self._at(self.q_axis, i))),
            pl.BlockSpec((1, 1, self.sizes[1]), lambda *i: (i[0], 0, self._at(self.k_axis, i))),
        ]

    def a_query(self, tile: int) -> pl.BlockSpec:
        """One number a head and query, [B, N, 1, Sq]."""
        return pl.BlockSpec((1, tile, 1, self.sizes[0]), lambda *i: (i[0], i[1], 0, self._at(self.q_axis, i)))


def _call(
    shape: Shape,
    kernel: Callable[..., None],
    grid: tuple[int, ...],
    scalars: tuple[jax.Array, ...],
    arrays: list[tuple[jax.Array, pl.BlockSpec]],
    outputs: list[tuple[Any, pl.BlockSpec]],
    scratch: tuple[tuple[int, ...], ...] = (),
) -> list[jax.Array]:
    return pl.pallas_call(
        functools.partial(kernel, shape),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(scalars),
            grid=grid,
            in_specs=[spec for _, spec in arrays],
            out_specs=[spec for _, spec in outputs],
            scratch_shapes=[pltpu.VMEM(size, jnp.float32) for size in scratch],
        ),
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x, _ in outputs],
        interpret=shape.interpret,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", *("arbitrary",) * (len(grid) - 2))
        ),
    )(*scalars, *(x for x, _ in arrays))


def _block_size(length: int) -> int:
    return next(size for size in BLOCK_SIZES if length % size == 0)


def is_whole(inputs: Inputs) -> bool:
    """Whether rows are computed in one piece."""
    return max(inputs.query.shape[1], inputs.key.shape[1]) <= WHOLE_ROW


def _prepared(shape: Shape, inputs: Inputs, backward: bool):
    """(grid, block specs, scalars, arrays with their specs) that forward and backward pass share."""
    B, Sq, S = inputs.query.shape[0], inputs.query.shape[1], inputs.key.shape[1]
    scalars = (*inputs.keys, inputs.first_head)
    if is_whole(inputs):
        specs, grid = Grid((Sq, S)), (B, shape.heads // tile_of(shape))
    else:
        size = _block_size(Sq), _block_size(S)
        specs = Grid(size, *((3, 2) if backward else (2, 3)))
        blocks = (Sq // size[0], S // size[1])
        grid = (B, shape.heads // tile_of(shape), *(blocks[::-1] if backward else blocks))
        scalars += (*block_ranges(inputs.ids[0], size[0]), *block_ranges(inputs.ids[1], size[1]))
    arrays = [
        *zip(inputs.ids, specs.ids(), strict=True),
        (inputs.query, specs.queries(lanes_of(shape))),
        (inputs.key, specs.keys(lanes_of(shape))),
        (inputs.value, specs.keys(lanes_of(shape))),
    ]
    return grid, specs, scalars, arrays


def forward(shape: Shape, inputs: Inputs) -> tuple[jax.Array, Any]:
    """(output [B, Sq, N D], what the backward pass wants of it)."""
    grid, specs, scalars, arrays = _prepared(shape, inputs, backward=False)
    out = (inputs.query, specs.queries(lanes_of(shape)))
    if is_whole(inputs):
        return _call(shape, _whole_forward, grid, scalars, arrays, [out])[0], None
    B, Sq = inputs.query.shape[:2]
    log_total = jax.ShapeDtypeStruct((B, shape.heads, 1, Sq), jnp.float32), specs.a_query(tile_of(shape))
    rows = specs.sizes[0]
    scratch = ((tile_of(shape), rows, LANES), (tile_of(shape), rows, LANES), (rows, lanes_of(shape)))
    result, log_total = _call(shape, _block_forward, grid, scalars, arrays, [out, log_total], scratch)
    return result, (result, log_total)


def backward(shape: Shape, inputs: Inputs, kept_of_forward: Any, d_out: jax.Array) -> list[jax.Array]:
    """The gradients of query, key and value."""
    grid, specs, scalars, arrays = _prepared(shape, inputs, backward=True)
    arrays.append((d_out, specs.queries(lanes_of(shape))))
    of_keys = [(inputs.key, specs.keys(lanes_of(shape))), (inputs.value, specs.keys(lanes_of(shape)))]
    if is_whole(inputs):
        outputs = [(inputs.query, specs.queries(lanes_of(shape))), *of_keys]
        return _call(shape, _whole_backward, grid, scalars, arrays, outputs)
    out, log_total = kept_of_forward
    B, Sq = out.shape[:2]
    products = (out.astype(jnp.float32) * d_out.astype(jnp.float32)).reshape(B, Sq, shape.heads, shape.head_size)
    delta = products.sum(axis=3).transpose(0, 2, 1)[:, :, None]
    arrays += [(log_total, specs.a_query(tile_of(shape))), (delta, specs.a_query(tile_of(shape)))]
    # The gradient of the queries gathers over all key blocks, so a whole row of it stays on the chip.
    of_queries = inputs.query, pl.BlockSpec((1, Sq, lanes_of(shape)), lambda *i: (i[0], 0, i[1]))
    scratch = ((Sq, lanes_of(shape)), (specs.sizes[1], lanes_of(shape)), (specs.sizes[1], lanes_of(shape)))
    return _call(shape, _block_backward, grid, scalars, arrays, [of_queries, *of_keys], scratch)
