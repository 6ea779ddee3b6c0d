"""The whole model: embeddings, encoder, pooler and the two pretraining heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct

from bertjax.config import ModelConfig
from bertjax.model.attention import ATTENTION_FUNCTIONS
from bertjax.model.dropout import Noise
from bertjax.model.embeddings import Embeddings, plain_lookup
from bertjax.model.encoder import Encoder
from bertjax.model.heads import MLMHead, NSPHead, Pooler
from bertjax.model.precision import FLOAT32, Precision


@struct.dataclass
class BertOutput:
    """What the model returns; fields by attribute or by name in brackets.

    sequence_output [B, S, H]. pooled_output [B, H], or [B, E, H] where ``cls_positions`` were given.
    nsp_logits [B, 2] or [B, E, 2]. mlm_logits [B, S, vocab_size], or with ``masked_lm_positions``
    [B, P, padded V] with the ids beyond ``vocab_size`` at -1e30.
    """

    sequence_output: jax.Array
    pooled_output: jax.Array
    mlm_logits: jax.Array
    nsp_logits: jax.Array

    def __getitem__(self, name: str) -> jax.Array:
        return getattr(self, name)


class Bert(nnx.Module):
    """BERT for pretraining.

    The model knows no mesh: how attention is computed, how the embedding table is looked up and where
    activations are pinned to devices come in as functions.

    precision: dtypes of the computation; float32 unless told otherwise.
    attend: an attention function (``model.attention``); default the one the config names.
    lookup: ``(table [V, H], ids [B, S]) -> [B, S, H]``.
    constrain: applied to activations [B, S, H] between layers.
    """

    def __init__(
        self,
        config: ModelConfig,
        rngs: nnx.Rngs,
        *,
        precision: Precision = FLOAT32,
        attend: Callable | None = None,
        lookup: Callable[[jax.Array, jax.Array], jax.Array] = plain_lookup,
        constrain: Callable[[jax.Array], jax.Array] = lambda x: x,
    ):
        self.config = config
        self.precision = precision
        self.attend = attend or ATTENTION_FUNCTIONS[config.attention]
        self.lookup = lookup
        self.constrain = constrain
        self.embeddings = Embeddings(config, rngs)
        self.encoder = Encoder(config, rngs)
        self.pooler = Pooler(config, rngs)
        self.mlm_head = MLMHead(config, rngs)
        self.nsp_head = NSPHead(config, rngs)

    def __call__(
        self,
        input_ids: jax.Array,
        token_type_ids: jax.Array | None = None,
        position_ids: jax.Array | None = None,
        example_ids: jax.Array | None = None,
        *,
        attention_mask: jax.Array | None = None,
        masked_lm_positions: jax.Array | None = None,
        cls_positions: jax.Array | None = None,
        noise: Noise | None = None,
    ) -> BertOutput:
        """input_ids and the like: int [B, S]. Dropout is on where ``noise`` is given.

        example_ids number the packed examples of a row from 1, 0 is padding. attention_mask (1 = token,
        0 = padding) is the same for rows of one example; give one of the two or neither.
        masked_lm_positions int [B, P], cls_positions int [B, E]: see ``BertOutput``.
        """
        if example_ids is not None and attention_mask is not None:
            raise ValueError("give example_ids or attention_mask, not both")
        input_ids = jnp.asarray(input_ids)
        if attention_mask is not None:
            example_ids = jnp.asarray(attention_mask).astype(jnp.int32)
        if token_type_ids is None:
            token_type_ids = jnp.zeros_like(input_ids)
        if position_ids is None:
            position_ids = jnp.broadcast_to(jnp.arange(input_ids.shape[1])[None, :], input_ids.shape)

        x = self.embeddings(input_ids, token_type_ids, position_ids, self.precision, noise, self.lookup)
        x = self.encoder(self.constrain(x), example_ids, self.precision, noise, self.attend, self.constrain)

        at_cls = x[:, 0] if cls_positions is None else _take_positions(x, cls_positions)
        pooled = self.pooler(at_cls, self.precision)
        at_masked = x if masked_lm_positions is None else _take_positions(x, masked_lm_positions)
        mlm_logits = self.mlm_head(at_masked, self.embeddings.word_embeddings[...], self.precision)
        if masked_lm_positions is None:
            mlm_logits = mlm_logits[..., : self.config.vocab_size]
        return BertOutput(x, pooled, mlm_logits, self.nsp_head(pooled, self.precision))


def _take_positions(x: jax.Array, positions: jax.Array) -> jax.Array:
    """x [B, S, H], positions int [B, P] -> [B, P, H]."""
    return jnp.take_along_axis(x, positions[:, :, None], axis=1)


def split_params(model: Bert) -> tuple[Any, dict[str, Any]]:
    """The model as (graph definition, nested dict of float32 arrays). Inverse: ``merge_params``."""
    graphdef, state = nnx.split(model)
    return graphdef, nnx.to_pure_dict(state)


def merge_params(graphdef: Any, params: dict[str, Any]) -> Bert:
    """A model that holds ``params`` (nested dict of arrays, tracers allowed)."""
    return nnx.merge(graphdef, nnx.State(jax.tree.map(nnx.Param, params)))
