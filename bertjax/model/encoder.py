"""The stack of encoder layers, scanned or unrolled, with or without recomputation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bertjax.config import ModelConfig
from bertjax.model.attention import Attention, Groups
from bertjax.model.dropout import Noise, dropout
from bertjax.model.layers import ACTIVATIONS, LayerNorm, Linear
from bertjax.model.precision import Precision

SITES_PER_LAYER = 3  # dropout on attention probabilities, attention output, MLP output
FIRST_LAYER_SITE = 1  # site 0 is the embeddings

# What the backward pass keeps of a layer; None: all that autodiff wants.
RECOMPUTE_POLICIES: dict[str, Callable | None] = {
    "none": None,
    "layer": jax.checkpoint_policies.nothing_saveable,
    "all_but_products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


# ``(layer, its input, its output) -> pytree``: what is kept of every layer, such as its attention probabilities.
Record = Callable[["EncoderLayer", jax.Array, jax.Array], Any]


class MLP(nnx.Module):
    """intermediate (H -> F), activation, output (F -> H), dropout, residual and layer norm (post-LN)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs, stack: tuple[int, ...] = ()):
        stddev = config.initializer_range
        self.intermediate = Linear(config.hidden_size, config.intermediate_size, stddev, rngs, stack)
        self.output = Linear(config.intermediate_size, config.hidden_size, stddev, rngs, stack)
        self.layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps, stack)
        self.config = config

    def __call__(self, x: jax.Array, precision: Precision, noise: Noise | None, site) -> jax.Array:
        y = ACTIVATIONS[self.config.hidden_act](self.intermediate(x, precision))
        y = dropout(self.output(y, precision), self.config.hidden_dropout_prob, noise, site)
        return self.layer_norm(x + y)


class EncoderLayer(nnx.Module):
    """One layer; with ``stack = (L,)`` the parameters of L layers, stacked on a leading axis."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs, stack: tuple[int, ...] = ()):
        self.attention = Attention(config, rngs, stack)
        self.mlp = MLP(config, rngs, stack)

    def __call__(self, x, groups: Groups | None, precision: Precision, noise: Noise | None, site, attend) -> jax.Array:
        x = self.attention(x, groups, precision, noise, site, attend)
        return self.mlp(x, precision, noise, site + 2)


class Encoder(nnx.Module):
    """``layers`` holds all L layers stacked, however they are run: checkpoints do not depend on that choice."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.layers = EncoderLayer(config, rngs, stack=(config.num_hidden_layers,))
        self.config = config

    def __call__(
        self, x, groups: Groups | None, precision: Precision, noise: Noise | None, attend, constrain, record: Record
    ) -> tuple[jax.Array, Any]:
        """x [B, S, H] -> ([B, S, H], what ``record`` returned, stacked over the layers [L, ...]).

        ``constrain`` pins the sharding of the activations between layers.
        """
        config = self.config
        graphdef, stacked = nnx.split(self.layers)

        def run_layer(x, params_and_index):
            params, index = params_and_index
            layer = nnx.merge(graphdef, params)
            site = FIRST_LAYER_SITE + SITES_PER_LAYER * index
            y = constrain(layer(x, groups, precision, noise, site, attend))
            return y, record(layer, x, y)

        policy = RECOMPUTE_POLICIES[config.recompute]
        if policy is not None:
            # Inside a scan nothing can be merged over the loop's edge, so the costly guard against it is not needed.
            run_layer = jax.checkpoint(run_layer, policy=policy, prevent_cse=not config.scan_layers)
        indices = jnp.arange(config.num_hidden_layers, dtype=jnp.uint32)
        if config.scan_layers:
            return jax.lax.scan(run_layer, x, (stacked, indices))
        records = []
        for index in range(config.num_hidden_layers):
            params = jax.tree.map(lambda p, i=index: p[i], stacked)
            x, recorded = run_layer(x, (params, indices[index]))
            records.append(recorded)
        return x, jax.tree.map(lambda *parts: jnp.stack(parts), *records)
