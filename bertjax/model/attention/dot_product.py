"""``jax.nn.dot_product_attention``: no window, no dropout."""

import jax
import jax.numpy as jnp

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
    """See ``bertjax.model.attention``."""
    if window is not None or dropout is not None:
        raise ValueError("attention = 'dot_product' has no window and no dropout on attention probabilities")
    query, key, value = (x.astype(precision.operands) for x in (query, key, value))
    with jax.default_matmul_precision("float32" if precision.operands == jnp.float32 else "default"):
        mask = allowed(query.shape[1], key.shape[1], segments, window)
        out_BxSxNxD = jax.nn.dot_product_attention(query, key, value, mask=mask)
    return out_BxSxNxD.astype(precision.activations)
