"""Attention for TPUs as one kernel: scores, segments, window, softmax and dropout stay on the chip.

Rows of up to ``WHOLE_ROW`` keys are computed in one piece, and the backward pass makes the probabilities again from
query and key. Longer rows go block by block (Dao et al. 2022, arXiv 2205.14135, with the running softmax of Milakov &
Gimelshein 2018, arXiv 1805.02867), and blocks that segments or the window leave empty are skipped.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from bertjax.model.attention.fused_shape import Inputs, Shape, block_ranges
from bertjax.model.attention.fused_tpu_programs import (
    LANES,
    block_backward,
    block_forward,
    lanes_of,
    tile_of,
    whole_backward,
    whole_forward,
)

WHOLE_ROW = 512  # positions; one head's float32 scores are then 1 MiB
BLOCK_SIZES = (512, 384, 256, LANES)  # of longer rows: the first that divides the length


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
        return _call(shape, whole_forward, grid, scalars, arrays, [out])[0], None
    B, Sq = inputs.query.shape[:2]
    log_total = jax.ShapeDtypeStruct((B, shape.heads, 1, Sq), jnp.float32), specs.a_query(tile_of(shape))
    rows = specs.sizes[0]
    scratch = ((tile_of(shape), rows, LANES), (tile_of(shape), rows, LANES), (rows, lanes_of(shape)))
    result, log_total = _call(shape, block_forward, grid, scalars, arrays, [out, log_total], scratch)
    return result, (result, log_total)


def backward(shape: Shape, inputs: Inputs, kept_of_forward: Any, d_out: jax.Array) -> list[jax.Array]:
    """The gradients of query, key and value."""
    grid, specs, scalars, arrays = _prepared(shape, inputs, backward=True)
    arrays.append((d_out, specs.queries(lanes_of(shape))))
    of_keys = [(inputs.key, specs.keys(lanes_of(shape))), (inputs.value, specs.keys(lanes_of(shape)))]
    if is_whole(inputs):
        outputs = [(inputs.query, specs.queries(lanes_of(shape))), *of_keys]
        return _call(shape, whole_backward, grid, scalars, arrays, outputs)
    out, log_total = kept_of_forward
    B, Sq = out.shape[:2]
    products = (out.astype(jnp.float32) * d_out.astype(jnp.float32)).reshape(B, Sq, shape.heads, shape.head_size)
    delta = products.sum(axis=3).transpose(0, 2, 1)[:, :, None]
    arrays += [(log_total, specs.a_query(tile_of(shape))), (delta, specs.a_query(tile_of(shape)))]
    # The gradient of the queries gathers over all key blocks, so a whole row of it stays on the chip.
    of_queries = inputs.query, pl.BlockSpec((1, Sq, lanes_of(shape)), lambda *i: (i[0], 0, i[1]))
    scratch = ((Sq, lanes_of(shape)), (specs.sizes[1], lanes_of(shape)), (specs.sizes[1], lanes_of(shape)))
    return _call(shape, block_backward, grid, scalars, arrays, [of_queries, *of_keys], scratch)
