"""The stack of encoder layers, scanned or unrolled, with or without recomputation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bertjax.config import ModelConfig
from bertjax.model.attention import Attention, SegmentIds
from bertjax.model.dropout import DropoutSeed, dropout
from bertjax.model.layers import ACTIVATIONS, LayerNorm, Linear
from bertjax.model.parameters import Maker
from bertjax.model.precision import Precision

SITES_PER_LAYER = 3  # dropout on attention probabilities, attention output, MLP output
FIRST_LAYER_SITE = 1  # site 0 is the embeddings

# What the backward pass keeps of a layer; None: all that autodiff wants.
REMAT_POLICIES: dict[str, Callable | None] = {
    "none": None,
    "layer": jax.checkpoint_policies.nothing_saveable,
    "save_matmuls": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


# ``(layer, its input, its output) -> pytree``: what is kept of every layer, such as its attention probabilities.
Record = Callable[["EncoderLayer", jax.Array, jax.Array], Any]


class MLP(nnx.Module):
    """intermediate (H -> F), activation, output (F -> H), dropout, residual and layer norm (post-LN)."""

    def __init__(self, config: ModelConfig, make: Maker):
        at = "bert.encoder.layer.{layer}"
        self.intermediate = Linear(make, "hidden", "mlp", bert=f"{at}.intermediate.dense")
        self.output = Linear(make, "mlp", "hidden", bert=f"{at}.output.dense")
        self.layer_norm = LayerNorm(make, config.layer_norm_eps, bert=f"{at}.output.LayerNorm")
        self.config = config

    def __call__(self, x: jax.Array, precision: Precision, dropout_seed: DropoutSeed | None, site) -> jax.Array:
        y = ACTIVATIONS[self.config.hidden_act](self.intermediate(x, precision))
        y = dropout(self.output(y, precision), self.config.hidden_dropout_prob, dropout_seed, site)
        return self.layer_norm(x + y)


class EncoderLayer(nnx.Module):
    """One layer, or with ``make.stacked("layers")`` the parameters of L layers, stacked on a leading axis."""

    def __init__(self, config: ModelConfig, make: Maker):
        self.attention = Attention(config, make)
        self.mlp = MLP(config, make)

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
        """x [B, S, H] -> [B, S, H], or only the ``num_positions`` positions of it."""
        x = self.attention(x, segments, precision, dropout_seed, site, attend, num_positions)
        return self.mlp(x, precision, dropout_seed, site + 2)


class Encoder(nnx.Module):
    """``layers`` holds all L layers stacked, however they are run: checkpoints do not depend on that choice."""

    def __init__(self, config: ModelConfig, make: Maker):
        self.layers = EncoderLayer(config, make.stacked("layers"))
        self.config = config

    def __call__(
        self,
        x: jax.Array,
        segments: SegmentIds | None,
        precision: Precision,
        dropout_seed: DropoutSeed | None,
        attend: Callable,
        constrain: Callable[[jax.Array], jax.Array],
        record: Record,
        num_positions: int | None = None,
    ) -> tuple[jax.Array, Any]:
        """x [B, S, H] -> ([B, S, H], what ``record`` returned, stacked over the layers [L, ...]).

        ``constrain`` pins the sharding of the activations between layers. num_positions: of the last layer only so many
        positions of each row are computed, [B, num_positions, H]; all of them are still keys and values there.
        """
        config = self.config
        graphdef, stacked = nnx.split(self.layers)

        def run_layer(x, params_and_index, num_positions: int | None, in_scan: bool):
            def run(x, params_and_index):
                params, index = params_and_index
                layer = nnx.merge(graphdef, params)
                site = FIRST_LAYER_SITE + SITES_PER_LAYER * index
                y = constrain(layer(x, segments, precision, dropout_seed, site, attend, num_positions))
                return y, record(layer, x, y)

            policy = REMAT_POLICIES[config.remat]
            if policy is not None:
                # Inside a scan nothing can be merged over the loop's edge: the costly guard against it is not needed.
                run = jax.checkpoint(run, policy=policy, prevent_cse=not in_scan)
            return run(x, params_and_index)

        L = config.num_hidden_layers
        layers = stacked, jnp.arange(L, dtype=jnp.uint32)
        scanned = 0 if not config.scan_layers else L if num_positions is None else L - 1
        records = []
        if scanned:
            first = layers if scanned == L else jax.tree.map(lambda p: p[:scanned], layers)
            x, recorded = jax.lax.scan(partial(run_layer, num_positions=None, in_scan=True), x, first)
            records.append(recorded)
        for index in range(scanned, L):
            only = num_positions if index == L - 1 else None
            x, recorded = run_layer(x, jax.tree.map(lambda p, i=index: p[i], layers), only, in_scan=False)
            records.append(jax.tree.map(lambda r: r[None], recorded))
        return x, jax.tree.map(lambda *parts: jnp.concatenate(parts), *records)
