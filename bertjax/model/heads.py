"""What sits on the encoder in pretraining: the pooler, and the heads, each with a row in ``HEADS``."""

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx, struct

from bertjax.config import ModelConfig
from bertjax.model.layers import ACTIVATIONS, LayerNorm, Linear
from bertjax.model.parameters import ZEROS, Maker
from bertjax.model.precision import Precision

# The logit of ids that only fill the vocabulary up to a multiple of 128: probability exactly 0 in float32.
PADDING_LOGIT = -1e30


class Encoded(NamedTuple):
    """What a head may read. sequence [B, S, H]: the last layer's output; masked [B, P, H]: it at the positions to
    predict, None if they are not known; pooled [B, H], or [B, E, H] for packed rows; word_embeddings [padded V, H].
    """

    sequence: jax.Array
    masked: jax.Array | None
    pooled: jax.Array
    word_embeddings: jax.Array


@struct.dataclass
class VocabularyProjection:
    """What logits over the vocabulary are made of, so that a loss can do without all of them at once.

    features [..., H]; table [padded V, H]; bias float32 [padded V], with ``PADDING_LOGIT`` where an id is no token.
    num_ids: of how many ids ``logits`` tells.
    """

    features: jax.Array
    table: jax.Array
    bias: jax.Array
    num_ids: int = struct.field(pytree_node=False)
    precision: Precision = struct.field(pytree_node=False)

    def logits(self) -> jax.Array:
        """float32 [..., num_ids]"""
        features = self.features.reshape(-1, self.features.shape[-1])
        flat = self.precision.product("th,vh->tv", features, self.table, result=jnp.float32) + self.bias[None]
        return flat.reshape(*self.features.shape[:-1], -1)[..., : self.num_ids]


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

    def __call__(self, encoded: Encoded, precision: Precision) -> VocabularyProjection:
        """At the masked positions, features [B, P, H] and logits for the padded V; without them everywhere, [B, S, H]
        and for the vocabulary."""
        x, num_ids = encoded.masked, self.bias.shape[0]
        if x is None:
            x, num_ids = encoded.sequence, self.config.vocab_size
        x = self.layer_norm(ACTIVATIONS[self.config.hidden_act](self.transform(x, precision)))
        is_token = jnp.arange(self.bias.shape[0]) < self.config.vocab_size
        bias = jnp.where(is_token, self.bias[...], PADDING_LOGIT)
        return VocabularyProjection(x, encoded.word_embeddings, bias, num_ids, precision)


class NSPHead(nnx.Module):
    """Logits float32 [B, 2] or [B, E, 2] from the pooled output; class 0 = is next, 1 = random."""

    def __init__(self, config: ModelConfig, make: Maker):
        del config
        self.dense = Linear(make.sized(labels=2), "hidden", "labels", bert="cls.seq_relationship")

    def __call__(self, encoded: Encoded, precision: Precision) -> jax.Array:
        return self.dense(encoded.pooled, precision).astype(jnp.float32)


@dataclass(frozen=True)
class Head:
    """title: its name in messages. make: the module, which maps (``Encoded``, precision) to logits, or to the
    ``VocabularyProjection`` that gives them. logits: their name among the outputs of the model."""

    title: str
    make: Callable[[ModelConfig, Maker], nnx.Module]
    logits: str


# By the first part of their parameters' paths. A head whose parameters have no Hugging Face names is kept in
# checkpoints and left out of model folders. New rows stand below the others: the order is that of random numbers.
HEADS = {
    "mlm_head": Head("masked-LM head", MLMHead, "mlm_logits"),
    "nsp_head": Head("next-sentence head", NSPHead, "nsp_logits"),
}
# Those of transformers' BertForPreTraining.
PRETRAINING_HEADS = ("mlm_head", "nsp_head")


def heads_with(logits: Container[str]) -> tuple[str, ...]:
    """The heads that give these logits."""
    return tuple(name for name, head in HEADS.items() if head.logits in logits)


def part_title(part: str) -> str:
    """A part that a model folder may lack, in words."""
    return HEADS[part].title if part in HEADS else part
