"""Fused attention with segments, two-sided windows and dropout: no [B, N, S, S] array exists outside the kernel.

The dropout masks are those of ``explicit`` to the bit, so that a run may change kernels. The kernels are in
``fused_tpu`` and ``fused_gpu``; on a CPU the former runs in Pallas's interpreter, which is for tests. A query that may
see no key gets zeros (in ``explicit``, the mean of all values).
"""

from functools import partial

import jax
import jax.numpy as jnp

from bertjax.model.attention import SegmentIds, fused_gpu, fused_tpu
from bertjax.model.attention.fused_shape import Inputs, Shape
from bertjax.model.attention.fused_tpu_programs import whole_tiles
from bertjax.model.attention.padding import padded_rows, padded_segments
from bertjax.model.dropout import Dropout
from bertjax.model.precision import Precision

HEAD_SIZES = (32, 64, 128)  # that the kernels compute; others are padded with zeros to the next
_MULTIPLE = 128  # padded rows are multiples of it


def attend(
    query,
    key,
    value,
    segments: SegmentIds | None,
    window: int | None,
    dropout: Dropout | None,
    *,
    precision: Precision,
    backend: str,
) -> jax.Array:
    """See ``bertjax.model.attention``. Raises ValueError for heads above the largest size."""
    (B, Sq, N, D), S = query.shape, key.shape[1]
    if HEAD_SIZES[-1] < D:
        raise ValueError(f"attention = 'fused' has no heads of size {D}; the largest is {HEAD_SIZES[-1]}")
    padded, width = Sq % _MULTIPLE or S % _MULTIPLE, next(size for size in HEAD_SIZES if size >= D)
    shape = Shape(
        queries=Sq,
        keys=S,
        heads=N if backend == "gpu" else whole_tiles(N, width),
        head_size=D,
        width=width,
        segments=segments is not None or bool(padded),
        window=window,
        rate=dropout.rate if dropout else 0.0,
        backend=backend,
    )
    ids = padded_segments(segments, B, Sq, S, _MULTIPLE)
    inputs = Inputs(
        keys=dropout.keys if dropout else (jnp.zeros(B, jnp.uint32),) * 2,
        first_head=jnp.asarray(dropout.first_head if dropout else 0, jnp.int32).reshape(1),
        ids=(ids.query[:, None], ids.key[:, None]),
        query=_flat(shape, query.astype(precision.operands)),
        key=_flat(shape, key.astype(precision.operands)),
        value=_flat(shape, value.astype(precision.operands)),
    )
    out = _fused(shape, inputs)[:, :Sq].reshape(B, Sq, shape.heads, width)[:, :, :N, :D]
    return out.astype(precision.activations)


def _flat(shape: Shape, x: jax.Array) -> jax.Array:
    """[B, S, N, D] -> [B, S, N W], with the shape's number of heads, each padded to the width W."""
    more = shape.heads - x.shape[2], shape.width - x.shape[3]
    if any(more):
        x = jnp.pad(x, [(0, 0), (0, 0), (0, more[0]), (0, more[1])])
    return padded_rows(x.reshape(*x.shape[:2], shape.heads * shape.width), _MULTIPLE)


def _kernels(shape: Shape):
    return fused_gpu if shape.backend == "gpu" else fused_tpu


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(shape: Shape, inputs: Inputs) -> jax.Array:
    return _kernels(shape).forward(shape, inputs)[0]


def _forward(shape, inputs):
    out, rest = _kernels(shape).forward(shape, inputs)
    return out, (inputs, rest)


def _backward(shape, residuals, d_out):
    inputs, rest = residuals
    d_query, d_key, d_value = _kernels(shape).backward(shape, inputs, rest, d_out)
    none = jax.tree.map(lambda x: None, inputs)
    return (none._replace(query=d_query, key=d_key, value=d_value),)


_fused.defvjp(_forward, _backward)
