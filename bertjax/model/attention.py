"""Self-attention: the block with its projections, and the functions that compute the attention itself.

An attention function takes query, key, value [B, N, S, D] and ``SegmentIds`` (or None: every position sees every
other), and returns [B, N, S, D]. ``drop`` is applied to the attention probabilities [B, N, S, S]. Queries (and
their group numbers) may be fewer than keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from bertjax.config import ModelConfig
from bertjax.model.dropout import DropoutSeed, dropout
from bertjax.model.layers import LayerNorm, Linear
from bertjax.model.parameters import Maker
from bertjax.model.precision import Precision

Drop = Callable[[jax.Array], jax.Array]
# The value that takes the place of a masked score: exp() of it is exactly 0 beside any real score.
MASKED_SCORE = -1e30


class SegmentIds(NamedTuple):
    """A position attends to those whose key number equals its query number; both int32 [B, S].

    Packed rows have their example ids as both. Under an attention mask every query is 1 and the mask is the keys:
    padding sees the tokens too, which changes nothing for these and is how other implementations have it.
    """

    query: jax.Array
    key: jax.Array

    def mask(self) -> jax.Array:
        """bool [B, 1, S, S]: whether a query (third axis) attends to a key (fourth)."""
        return self.query[:, None, :, None] == self.key[:, None, None, :]


def attention_probabilities(query, key, segments: SegmentIds | None, precision: Precision) -> jax.Array:
    """softmax(q k^T / sqrt(D)) over the keys a query may attend to: float32 [B, N, S, S]."""
    scores_BxNxSxS = precision.product("bnqd,bnkd->bnqk", query, key, result=jnp.float32)
    scores_BxNxSxS = scores_BxNxSxS * (query.shape[-1] ** -0.5)
    if segments is not None:
        scores_BxNxSxS = jnp.where(segments.mask(), scores_BxNxSxS, MASKED_SCORE)
    return jax.nn.softmax(scores_BxNxSxS, axis=-1)


def explicit_attention(
    query, key, value, segments: SegmentIds | None, precision: Precision, drop: Drop | None
) -> jax.Array:
    """softmax(q k^T / sqrt(D)) v with the probabilities written out; the only one with dropout on them."""
    probs_BxNxSxS = attention_probabilities(query, key, segments, precision).astype(precision.activations)
    if drop is not None:
        probs_BxNxSxS = drop(probs_BxNxSxS)
    return precision.product("bnqk,bnkd->bnqd", probs_BxNxSxS, value)


def dot_product_attention(
    query, key, value, segments: SegmentIds | None, precision: Precision, drop: Drop | None
) -> jax.Array:
    """``jax.nn.dot_product_attention``; refuses dropout on the probabilities (ValueError)."""
    if drop is not None:
        raise ValueError("attention = 'dot_product' has no dropout on attention probabilities")
    query, key, value = (x.transpose(0, 2, 1, 3).astype(precision.operands) for x in (query, key, value))
    with jax.default_matmul_precision("float32" if precision.operands == jnp.float32 else "default"):
        mask = None if segments is None else segments.mask()
        out_BxSxNxD = jax.nn.dot_product_attention(query, key, value, mask=mask)
    return out_BxSxNxD.transpose(0, 2, 1, 3).astype(precision.activations)


ATTENTION_FUNCTIONS = {"explicit": explicit_attention, "dot_product": dot_product_attention}


class Attention(nnx.Module):
    """Multi-head self-attention with its output projection, dropout, residual and layer norm (post-LN)."""

    def __init__(self, config: ModelConfig, make: Maker):
        at = "bert.encoder.layer.{layer}.attention"
        self.query = Linear(make, "hidden", "heads", bert=f"{at}.self.query")
        self.key = Linear(make, "hidden", "heads", bert=f"{at}.self.key")
        self.value = Linear(make, "hidden", "heads", bert=f"{at}.self.value")
        self.output = Linear(make, "heads", "hidden", bert=f"{at}.output.dense")
        self.layer_norm = LayerNorm(make, config.layer_norm_eps, bert=f"{at}.output.LayerNorm")
        self.config = config

    def __call__(
        self,
        x: jax.Array,
        segments: SegmentIds | None,
        precision: Precision,
        dropout_seed: DropoutSeed | None,
        site: jax.Array | int,
        attend: Callable,
        num_positions: int | None = None,
    ) -> jax.Array:
        """x [B, S, H] -> [B, S, H], or [B, num_positions, H]; ``site`` and ``site + 1`` number its two dropouts."""
        config = self.config
        key, value = (self._heads(project, x, precision) for project in (self.key, self.value))
        if num_positions is not None:
            x, segments = x[:, :num_positions], segments and SegmentIds(segments.query[:, :num_positions], segments.key)
        query = self._heads(self.query, x, precision)
        rate = config.attention_probs_dropout_prob
        drop = None if dropout_seed is None or rate == 0.0 else lambda probs: dropout(probs, rate, dropout_seed, site)
        mixed_BxNxSxD = attend(query, key, value, segments, precision, drop)
        y = self.output(mixed_BxNxSxD.transpose(0, 2, 1, 3).reshape(x.shape), precision)
        return self.layer_norm(x + dropout(y, config.hidden_dropout_prob, dropout_seed, site + 1))

    def probabilities(self, x: jax.Array, segments: SegmentIds | None, precision: Precision) -> jax.Array:
        """The attention probabilities float32 [B, N, S, S] on input x [B, S, H], before any dropout."""
        query, key = (self._heads(project, x, precision) for project in (self.query, self.key))
        return attention_probabilities(query, key, segments, precision)

    def _heads(self, project: Linear, x: jax.Array, precision: Precision) -> jax.Array:
        """x [B, S, H], projected and cut into heads [B, N, S, D]."""
        B, S, H = x.shape
        N = self.config.num_attention_heads
        return project(x, precision).reshape(B, S, N, H // N).transpose(0, 2, 1, 3)
