"""What sits on the encoder in pretraining: pooler, masked-LM head, next-sentence head."""

import jax
import jax.numpy as jnp
from flax import nnx

from bertjax.config import ModelConfig
from bertjax.model.layers import ACTIVATIONS, LayerNorm, Linear
from bertjax.model.parameters import ZEROS, Maker
from bertjax.model.precision import Precision

# The logit of ids that only fill the vocabulary up to a multiple of 128: probability exactly 0 in float32.
PADDING_LOGIT = -1e30


class Pooler(nnx.Module):
    """The hidden state at [CLS], through a dense layer and tanh: [..., H] -> [..., H]."""

    def __init__(self, make: Maker):
        self.dense = Linear(make, "hidden", "hidden", bert="bert.pooler.dense")

    def __call__(self, x: jax.Array, precision: Precision) -> jax.Array:
        return jnp.tanh(self.dense(x, precision))


class MLMHead(nnx.Module):
    """transform (dense, activation, layer norm), then the product with the token embeddings, tied, plus a bias."""

    def __init__(self, config: ModelConfig, make: Maker):
        at = "cls.predictions"
        self.transform = Linear(make, "hidden", "hidden", bert=f"{at}.transform.dense")
        self.layer_norm = LayerNorm(make, config.layer_norm_eps, bert=f"{at}.transform.LayerNorm")
        self.bias = make(("vocab",), ZEROS, decay=False, bert=f"{at}.bias")
        self.config = config

    def __call__(self, x: jax.Array, word_embeddings: jax.Array, precision: Precision) -> jax.Array:
        """x [B, P, H], word_embeddings [padded V, H] -> logits float32 [B, P, padded V]."""
        x = self.layer_norm(ACTIVATIONS[self.config.hidden_act](self.transform(x, precision)))
        flat = precision.product("th,vh->tv", x.reshape(-1, x.shape[-1]), word_embeddings, result=jnp.float32)
        is_token = jnp.arange(self.bias.shape[0]) < self.config.vocab_size
        logits = flat + jnp.where(is_token, self.bias[...], PADDING_LOGIT)[None, :]
        return logits.reshape(*x.shape[:-1], -1)


class NSPHead(nnx.Module):
    """pooled [..., H] -> logits float32 [..., 2]; class 0 = is next, 1 = random."""

    def __init__(self, make: Maker):
        self.dense = Linear(make, "hidden", "labels", bert="cls.seq_relationship")

    def __call__(self, pooled: jax.Array, precision: Precision) -> jax.Array:
        return self.dense(pooled, precision).astype(jnp.float32)
