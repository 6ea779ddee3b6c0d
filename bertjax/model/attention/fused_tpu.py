"""Attention for TPUs as one kernel: scores, segments, window, softmax and dropout stay on the chip.

Rows of up to ``WHOLE_ROW`` keys are computed in one piece, and the backward pass makes the probabilities again from
query and key. Longer rows go block by block (Dao et al. 2022, arXiv 2205.14135, with the running softmax of Milakov &
Gimelshein 2018, arXiv 1805.02867); blocks that segments or the window leave empty are neither computed nor read.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from bertjax.model.attention.fused_shape import Inputs, Shape, bytes_moved, declared_work, spans
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
# What a program may keep in the chip's vector memory. XLA's default, 16 MiB, does not hold the gradient of 8,192
# queries in float32; v5e and v6e have 128 MiB, v5p and TPU7x 64. A v4 has 16: there such rows fit in bfloat16 only.
MEMORY = 48 * 2**20


class Blocks(NamedTuple):
    """Where a program of the grid finds its blocks.

    moving: which of queries (0) and keys (1) the last axis of the grid runs over, the other is numbered by the axis
    before; None: rows in one piece. The index of a moving block stays inside its span, which the last two scalars
    give, so that a block that meets nobody is not read.
    """

    sizes: tuple[int, int]
    moving: int | None = None

    def _at(self, which: int, index: tuple[Any, ...]) -> Any:
        if self.moving is None:
            return 0
        row, fixed, moving, (begin, end) = index[0], index[2], index[3], index[-2:]
        if which != self.moving:
            return fixed
        return jnp.minimum(jnp.maximum(moving, begin[row, fixed]), jnp.maximum(end[row, fixed], 1) - 1)

    def heads(self, which: int, lanes: int) -> pl.BlockSpec:
        """Of an array [B, S, N W]."""
        return pl.BlockSpec((1, self.sizes[which], lanes), lambda *i: (i[0], self._at(which, i), i[1]))

    def ids(self, which: int) -> pl.BlockSpec:
        return pl.BlockSpec((1, 1, self.sizes[which]), lambda *i: (i[0], 0, self._at(which, i)))

    def a_query(self, tile: int) -> pl.BlockSpec:
        """One number a head and query, [B, N, 1, Sq]."""
        return pl.BlockSpec((1, tile, 1, self.sizes[0]), lambda *i: (i[0], i[1], 0, self._at(0, i)))


class Array(NamedTuple):
    """An operand or result: which blocks of it a program takes, and whether it is numbered by queries (0) or keys."""

    value: Any
    spec: pl.BlockSpec
    by: int


def _arrays(shape: Shape, blocks: Blocks, by: int, *values: Any) -> list[Array]:
    return [Array(x, blocks.heads(by, lanes_of(shape)), by) for x in values]


def _call(
    shape: Shape,
    inputs: Inputs,
    kernel: Callable[..., None],
    products: int,
    blocks: Blocks,
    more: list[Array],
    outputs: list[Array],
    scratch: tuple[tuple[int, ...], ...] = (),
) -> list[jax.Array]:
    """more: operands beside the inputs. products: see ``declared_work``. scratch: shapes in float32."""
    size, whole = blocks.sizes, blocks.moving is None
    grid = (inputs.query.shape[0], shape.heads // tile_of(shape))
    scalars = (*inputs.keys, inputs.first_head)
    if blocks.moving is not None:
        number = inputs.query.shape[1] // size[0], inputs.key.shape[1] // size[1]
        grid += (number[1 - blocks.moving], number[blocks.moving])
        scalars += spans(shape, inputs, size, of=1 - blocks.moving)
    operands = [
        *(Array(ids, blocks.ids(which), which) for which, ids in enumerate(inputs.ids)),
        *_arrays(shape, blocks, 0, inputs.query),
        *_arrays(shape, blocks, 1, inputs.key, inputs.value),
        *more,
    ]
    once = [x.value for x in operands if whole or x.by != blocks.moving] + [x.value for x in outputs]
    again = [x.value for x in operands if not whole and x.by == blocks.moving]
    moved = bytes_moved(shape, inputs, size, once, again, blocks.moving or 0)
    return pl.pallas_call(
        functools.partial(kernel, shape),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(scalars),
            grid=grid,
            in_specs=[x.spec for x in operands],
            out_specs=[x.spec for x in outputs],
            scratch_shapes=[pltpu.VMEM(size, jnp.float32) for size in scratch],
        ),
        out_shape=[jax.ShapeDtypeStruct(x.value.shape, x.value.dtype) for x in outputs],
        interpret=shape.interpret,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", *("arbitrary",) * (len(grid) - 2)),
            vmem_limit_bytes=None if whole else MEMORY,
        ),
        name=f"fused_attention_{kernel.__name__}",
        **declared_work(shape, inputs, products, size, moved),
    )(*scalars, *(x.value for x in operands))


def _block_size(length: int) -> int:
    return next(size for size in BLOCK_SIZES if length % size == 0)


def _blocks(inputs: Inputs, moving: int) -> Blocks:
    lengths = inputs.query.shape[1], inputs.key.shape[1]
    if max(lengths) <= WHOLE_ROW:
        return Blocks(lengths)
    return Blocks((_block_size(lengths[0]), _block_size(lengths[1])), moving)


def forward(shape: Shape, inputs: Inputs) -> tuple[jax.Array, Any]:
    """(output [B, Sq, N W], what the backward pass wants of it)."""
    blocks = _blocks(inputs, moving=1)
    out = _arrays(shape, blocks, 0, inputs.query)
    if blocks.moving is None:
        return _call(shape, inputs, whole_forward, 2, blocks, [], out)[0], None
    (B, Sq), tile, rows = inputs.query.shape[:2], tile_of(shape), blocks.sizes[0]
    log_total = Array(jax.ShapeDtypeStruct((B, shape.heads, 1, Sq), jnp.float32), blocks.a_query(tile), 0)
    scratch = ((tile, rows, LANES), (tile, rows, LANES), (rows, lanes_of(shape)))
    result, log_total = _call(shape, inputs, block_forward, 2, blocks, [], [*out, log_total], scratch)
    return result, (result, log_total)


def backward(shape: Shape, inputs: Inputs, kept_of_forward: Any, d_out: jax.Array) -> list[jax.Array]:
    """The gradients of query, key and value."""
    blocks = _blocks(inputs, moving=0)
    of_keys = _arrays(shape, blocks, 1, inputs.key, inputs.value)
    d_outs = _arrays(shape, blocks, 0, d_out)
    if blocks.moving is None:
        outputs = [*_arrays(shape, blocks, 0, inputs.query), *of_keys]
        return _call(shape, inputs, whole_backward, 5, blocks, d_outs, outputs)
    out, log_total = kept_of_forward
    (B, Sq), tile, lanes = out.shape[:2], tile_of(shape), lanes_of(shape)
    products = (out.astype(jnp.float32) * d_out.astype(jnp.float32)).reshape(B, Sq, shape.heads, shape.width)
    delta = products.sum(axis=3).transpose(0, 2, 1)[:, :, None]
    more = [*d_outs, *(Array(x, blocks.a_query(tile), 0) for x in (log_total, delta))]
    # The gradient of the queries gathers over all blocks of keys, so a whole row of it stays on the chip.
    of_queries = Array(inputs.query, pl.BlockSpec((1, Sq, lanes), lambda *i: (i[0], 0, i[1])), 0)
    scratch = ((blocks.sizes[1], lanes), (blocks.sizes[1], lanes))
    scratch += () if inputs.query.dtype == jnp.float32 else ((Sq, lanes),)
    return _call(shape, inputs, block_backward, 5, blocks, more, [of_queries, *of_keys], scratch)
