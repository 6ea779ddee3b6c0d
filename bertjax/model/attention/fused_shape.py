"""What the fused attention kernels of all backends share: shapes, inputs, scores, dropout, and which blocks meet."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from bertjax.model.dropout import kept

MASKED_SCORE = -1e30
# A row's maximum is at least this, so that exp(masked score - maximum) is 0 in a row without a single allowed key.
LEAST_MAXIMUM = -5e29


class Shape(NamedTuple):
    """What a kernel is compiled for. ``queries`` and ``keys`` number the elements of the dropout mask: not padded."""

    queries: int
    keys: int
    heads: int
    head_size: int
    width: int  # of a head in the arrays: head_size, padded to a size that the kernels have
    segments: bool
    window: int | None
    rate: float  # of dropout; 0: none
    backend: str  # where it runs; on a "cpu" in Pallas's interpreter

    @property
    def interpret(self) -> bool:
        return self.backend == "cpu"


class Inputs(NamedTuple):
    """What both passes take; all but the scalars are padded along the row.

    keys: two uint32 [B], of the dropout. first_head: int32 [1]. ids: int32 [B, 1, Sq] and [B, 1, S].
    query [B, Sq, N W]; key, value [B, S, N W], W the padded head size.
    """

    keys: tuple[jax.Array, jax.Array]
    first_head: jax.Array
    ids: tuple[jax.Array, jax.Array]
    query: jax.Array
    key: jax.Array
    value: jax.Array


class Place(NamedTuple):
    """A block of one head's scores: its head, first query and key, size, and the ids as a column and as a row.

    axes: those of the queries and of the keys; (1, 0): the block is transposed, keys by queries.
    """

    head: Any
    query: Any
    key: Any
    size: tuple[int, int]
    ids: tuple[jax.Array, jax.Array]
    axes: tuple[int, int] = (0, 1)

    def queries(self) -> jax.Array:
        """int32 of the block's size: each element's position of the query in the row."""
        return self.query + jax.lax.broadcasted_iota(jnp.int32, self.size, self.axes[0])

    def keys(self) -> jax.Array:
        """The same of the key."""
        return self.key + jax.lax.broadcasted_iota(jnp.int32, self.size, self.axes[1])


def product(a: jax.Array, b: jax.Array, over: tuple[int, int]) -> jax.Array:
    """A product with float32 result; axis ``over[0]`` of a meets ``over[1]`` of b."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    numbers = (((over[0],), (over[1],)), ((), ()))
    return jax.lax.dot_general(a, b, numbers, precision=precision, preferred_element_type=jnp.float32)


def masked_scores(shape: Shape, a: jax.Array, b: jax.Array, place: Place) -> jax.Array:
    """Scaled scores float32 [a, b] of queries and keys, in the order of ``place.axes``; ``MASKED_SCORE`` where a query
    may not see a key."""
    scores = product(a, b, (1, 1)) * shape.head_size**-0.5
    if shape.segments:
        scores = jnp.where(place.ids[0] == place.ids[1], scores, MASKED_SCORE)
    if shape.window is not None:
        near = jnp.abs(place.queries() - place.keys()) <= shape.window // 2
        scores = jnp.where(near, scores, MASKED_SCORE)
    return scores


def kept_elements(shape: Shape, keys: tuple[Any, Any], place: Place) -> jax.Array | None:
    """The dropout mask of a block of probabilities that are numbered as [N, Sq, S]; None: all stay."""
    if not shape.rate:
        return None
    element = (place.head * shape.queries + place.queries()) * shape.keys + place.keys()
    return kept(element.astype(jnp.uint32), shape.rate, *keys)


def dropped(shape: Shape, x: jax.Array, keep: jax.Array | None) -> jax.Array:
    return x if keep is None else jnp.where(keep, x * (1.0 / (1.0 - shape.rate)), 0.0)


# Which blocks of queries meet which blocks of keys


def near_blocks(shape: Shape, numbers: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """bool [blocks of queries, blocks of keys]: whether the window lets any query of one see any key of the other."""
    q, k = np.arange(numbers[0])[:, None] * size[0], np.arange(numbers[1])[None] * size[1]
    apart = np.maximum(k - (q + size[0] - 1), q - (k + size[1] - 1))
    return (apart <= shape.window // 2) if shape.window is not None else np.ones(numbers, bool)


def spans(shape: Shape, inputs: Inputs, size: tuple[int, int], of: int) -> tuple[jax.Array, jax.Array]:
    """int32 [B, blocks] each: the first block of keys that a block of queries meets and one past the last; 0, 0 if it
    meets none. of = 1: the same for blocks of keys and the queries that they meet."""
    (least_q, most_q), (least_k, most_k) = (_ranges(ids, n) for ids, n in zip(inputs.ids, size, strict=True))
    near = jnp.asarray(near_blocks(shape, (least_q.shape[1], least_k.shape[1]), size))[None]
    meets = (least_q[:, :, None] <= most_k[:, None]) & (least_k[:, None] <= most_q[:, :, None]) & near
    meets = meets.swapaxes(1, 2) if of else meets
    number, some = meets.shape[2], meets.any(axis=2)
    first, end = meets.argmax(axis=2), number - meets[:, :, ::-1].argmax(axis=2)
    return jnp.where(some, first, 0).astype(jnp.int32), jnp.where(some, end, 0).astype(jnp.int32)


def _ranges(ids: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The least and the greatest id of every block, int32 [B, blocks]."""
    blocks = ids.reshape(ids.shape[0], -1, size)
    return blocks.min(axis=2), blocks.max(axis=2)


# What a kernel tells the compiler and the planner of its work


def declared_work(shape: Shape, inputs: Inputs, products: int, size: tuple[int, int], moved: int) -> dict[str, Any]:
    """Keywords of ``pallas_call`` that declare FLOPs and bytes; neither is visible to a compiler.

    products: of a block of queries with a block of keys, head by head. moved: bytes read and written. Counted are the
    blocks that the window leaves; segments may leave fewer.
    """
    rows, numbers = inputs.query.shape[0], block_numbers(inputs, size)
    pairs = int(near_blocks(shape, numbers, size).sum()) * size[0] * size[1] * rows * shape.heads
    flops = 2 * products * pairs * shape.width
    return {
        "cost_estimate": pl.CostEstimate(flops=flops, bytes_accessed=moved, transcendentals=pairs),
        "metadata": {"flops": str(flops), "bytes_accessed": str(moved)},
    }


def block_numbers(inputs: Inputs, size: tuple[int, int]) -> tuple[int, int]:
    """How many blocks of queries and of keys a row has."""
    return inputs.query.shape[1] // size[0], inputs.key.shape[1] // size[1]


def bytes_moved(shape: Shape, inputs: Inputs, size: tuple[int, int], once: Any, again: Any, moving: int) -> int:
    """Bytes of the arrays that are read or written ``once``, and of those read ``again`` for each block that meets
    one of theirs. moving: 0, the latter are numbered by queries; 1, by keys."""
    total = lambda arrays: sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in arrays)
    numbers = block_numbers(inputs, size)
    return total(once) + total(again) * int(near_blocks(shape, numbers, size).sum()) // numbers[moving]
