"""softmax(q k^T / sqrt(D)) v with the probabilities [B, N, Sq, S] written out."""

import jax
import jax.numpy as jnp

from bertjax.model.attention import SegmentIds, allowed
from bertjax.model.dropout import Dropout, drop
from bertjax.model.precision import Precision

# The value that takes the place of a masked score: exp() of it is exactly 0 beside any real score.
MASKED_SCORE = -1e30


def probabilities(query, key, segments: SegmentIds | None, window: int | None, precision: Precision) -> jax.Array:
    """[B, N, Sq, D], [B, N, S, D] -> softmax(q k^T / sqrt(D)) over the keys a query may see, float32 [B, N, Sq, S]."""
    scores_BxNxSxS = precision.product("bnqd,bnkd->bnqk", query, key, result=jnp.float32)
    scores_BxNxSxS = scores_BxNxSxS * (query.shape[-1] ** -0.5)
    mask = allowed(query.shape[2], key.shape[2], segments, window)
    if mask is not None:
        scores_BxNxSxS = jnp.where(mask, scores_BxNxSxS, MASKED_SCORE)
    return jax.nn.softmax(scores_BxNxSxS, axis=-1)


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
    query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))  # [B, N, S, D]
    probs_BxNxSxS = probabilities(query, key, segments, window, precision).astype(precision.activations)
    mixed_BxNxSxD = precision.product("bnqk,bnkd->bnqd", drop(probs_BxNxSxS, dropout), value)
    return mixed_BxNxSxD.transpose(0, 2, 1, 3)
