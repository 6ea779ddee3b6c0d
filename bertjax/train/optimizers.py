"""Update rules as optax transformations: bert2018 AdamW, AdamW, LAMB."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from bertjax.config import OptimizerConfig

# Parameters under this path are stacked on a leading layer axis; per-tensor norms are taken layer by layer.
STACKED = "layers"


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clipping by the global norm, moments, decoupled weight decay, and for LAMB the trust ratio.

    What comes out is to be multiplied with the learning rate and subtracted from the parameters.
    Weight decay skips biases and layer norms; embeddings are decayed (google-research/bert optimization.py).
    """
    rules = {
        "bert2018": scale_by_adam_without_bias_correction,
        "adamw": optax.scale_by_adam,
        "lamb": optax.scale_by_adam,
    }
    chain = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    chain += [rules[config.name](b1=config.beta1, b2=config.beta2, eps=config.eps)]
    chain += [optax.add_decayed_weights(config.weight_decay, mask=decay_mask)]
    if config.name == "lamb":
        chain += [scale_by_layer_trust_ratio()]
    return optax.chain(*chain)


def decay_mask(params: Any) -> Any:
    """True for parameters that weight decay applies to: all but biases and layer norms."""

    def decays(path: tuple[Any, ...], _) -> bool:
        names = [key.key for key in path]
        return "layer_norm" not in names and names[-1] != "bias"

    return jax.tree_util.tree_map_with_path(decays, params)


def scale_by_adam_without_bias_correction(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """m / (sqrt(v) + eps) with m, v the plain running averages (google-research/bert AdamWeightDecayOptimizer)."""

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(count=jnp.zeros([], jnp.int32), mu=zeros(), nu=zeros())

    def update(updates: Any, state: Any, params: Any = None):
        del params
        mu = jax.tree.map(lambda m, g: b1 * m + (1.0 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1.0 - b2) * jnp.square(g), state.nu, updates)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(count=state.count + 1, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)


def scale_by_layer_trust_ratio() -> optax.GradientTransformation:
    """LAMB's ||w|| / ||update|| (You et al. 2019, algorithm 2), per tensor, and per layer where layers are stacked.

    Only for parameters that are decayed, as in NVIDIA's FusedLAMB; 1 where either norm is zero.
    """

    def update(updates: Any, state: Any, params: Any = None):
        def scaled(path: tuple[Any, ...], u: jax.Array, w: jax.Array, decays: bool) -> jax.Array:
            if not decays:
                return u
            first = 1 if STACKED in [key.key for key in path] else 0
            axes = tuple(range(first, u.ndim))
            w_norm = jnp.sqrt(jnp.sum(jnp.square(w), axes, keepdims=True))
            u_norm = jnp.sqrt(jnp.sum(jnp.square(u), axes, keepdims=True))
            ratio = jnp.where((w_norm > 0) & (u_norm > 0), w_norm / jnp.where(u_norm > 0, u_norm, 1.0), 1.0)
            return u * ratio

        return jax.tree_util.tree_map_with_path(scaled, updates, params, decay_mask(params)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
