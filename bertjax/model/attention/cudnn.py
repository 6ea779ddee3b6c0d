"""cuDNN's flash attention, by ``jax.nn.dot_product_attention``: no dropout.

Segments and windows go in as a mask, which jax turns into a bias [B, 1, S, S] in 16 bits: right, but bytes that the
other kernels for GPUs do not move. cuDNN's own windows look to one side only.
"""

import jax

from bertjax.model.attention import SegmentIds, allowed
from bertjax.model.dropout import Dropout
from bertjax.model.precision import Precision


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
    """See ``bertjax.model.attention``. Raises ValueError for dropout, and jax's errors for a card without it."""
    if dropout is not None:
        raise ValueError("attention = 'cudnn' has no dropout on attention probabilities")
    mask = allowed(query.shape[1], key.shape[1], segments, window)
    query, key, value = (x.astype(precision.operands) for x in (query, key, value))
    out_BxSxNxD = jax.nn.dot_product_attention(query, key, value, mask=mask, implementation="cudnn")
    return out_BxSxNxD.astype(precision.activations)
