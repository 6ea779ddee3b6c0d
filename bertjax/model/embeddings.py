"""Token ids -> the encoder's input: word + position + token-type embeddings, layer norm, dropout."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bertjax.config import ModelConfig
from bertjax.model.block import BlockSpec
from bertjax.model.dropout import DropoutSeed, drop, dropout_at
from bertjax.model.layers import LayerNorm
from bertjax.model.parameters import Init, Maker, padded_vocabulary
from bertjax.model.precision import Precision


def padded_rows(rows: np.ndarray) -> np.ndarray:
    """Rows of a vocabulary [V, ...] with those of zeros that fill it up: [padded V, ...]."""
    padding = padded_vocabulary(len(rows)) - len(rows)
    return np.pad(rows, [(0, padding)] + [(0, 0)] * (rows.ndim - 1))


def sinusoidal_positions(length: int, hidden_size: int) -> jax.Array:
    """Fixed position embeddings [length, H] of "Attention Is All You Need", section 3.5: sin and cos interleaved."""
    half = jnp.arange(hidden_size // 2, dtype=jnp.float32)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] / 10000.0 ** (2.0 * half / hidden_size)[None, :]
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(length, hidden_size)


class Embeddings(nnx.Module):
    """Parameters: word_embeddings [padded V, H], position_embeddings [max, H], token_type_embeddings [types, H]."""

    def __init__(self, config: ModelConfig, spec: BlockSpec, make: Maker):
        def table(axis: str, name: str, rows: int | None = None) -> nnx.Param:
            init = Init(stddev=make.stddev, rows=rows)
            return make((axis, "hidden"), init, decay=True, bert=f"bert.embeddings.{name}.weight")

        # Rows beyond the vocabulary are zero and stay so: their logits are masked, so they get no gradient.
        self.word_embeddings = table("vocab", "word_embeddings", config.vocab_size)
        self.learned_positions = spec.positions == "absolute"
        if self.learned_positions:
            self.position_embeddings = table("positions", "position_embeddings")
        self.token_type_embeddings = table("types", "token_type_embeddings")
        self.layer_norm = LayerNorm(make, config.layer_norm_eps, bert="bert.embeddings.LayerNorm")
        self.config = config

    def __call__(
        self,
        input_ids: jax.Array,
        token_type_ids: jax.Array,
        position_ids: jax.Array,
        precision: Precision,
        dropout_seed: DropoutSeed | None,
        lookup: Callable[[jax.Array, jax.Array], jax.Array],
        replicate: Callable[[jax.Array], jax.Array],
    ) -> jax.Array:
        """int32 [B, S] three times -> [B, S, H]; ``lookup`` and ``replicate``: see ``Bert``."""
        config = self.config
        if self.learned_positions:
            positions = replicate(self.position_embeddings[...])
        else:
            positions = sinusoidal_positions(config.max_position_embeddings, config.hidden_size)
        # A product with one-hot rows: the gradient of a two-row table by scatter would be one long serial sum.
        types = jax.nn.one_hot(token_type_ids, config.type_vocab_size, dtype=jnp.float32)
        x = lookup(self.word_embeddings[...], input_ids)
        x = x + jnp.einsum("bst,th->bsh", types, self.token_type_embeddings[...], precision=jax.lax.Precision.HIGHEST)
        x = x + jnp.take(positions, position_ids, axis=0)
        x = self.layer_norm(x).astype(precision.activations)
        return drop(x, dropout_at(0, config.hidden_dropout_prob, dropout_seed))
