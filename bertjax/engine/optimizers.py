"""Update rules as optax transformations: bert2018 AdamW, AdamW, LAMB."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bertjax.config import UpdateConfig

# ``(decay, number of updates) -> what a running average is divided by``
Correction = Callable[[float, jax.Array], jax.Array | float]


def make_optimizer(config: UpdateConfig, specs: Any) -> optax.GradientTransformation:
    """Clipping by the global norm, moments, decoupled weight decay, and for LAMB the trust ratio.

    What comes out is to be multiplied with the learning rate and subtracted from the parameters. Extra arguments of
    its update: ``grad_norm``, the global norm of the gradients; ``good``, see ``scale_by_adam``.
    specs: what describes each parameter (``model.parameters``), as a nested dict; its ``decay`` and ``axes`` are read.
    Weight decay skips biases and layer norms; embeddings are decayed (google-research/bert optimization.py).
    """
    correction = {"bert2018": no_correction, "adamw": one_minus_power, "lamb": one_minus_power}[config.name]
    chain = [clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    chain += [scale_by_adam(config.beta1, config.beta2, config.eps, correction)]
    chain += [optax.add_decayed_weights(config.weight_decay, mask=decay_mask(specs))]
    if config.name == "lamb":
        chain += [scale_by_layer_trust_ratio(specs)]
    return optax.chain(*chain)


def clip_by_global_norm(limit: float) -> optax.GradientTransformationExtraArgs:
    """Gradients times limit / norm where their global norm is over ``limit``. The extra argument ``grad_norm`` is that
    norm, where it is known."""

    def update(updates: Any, state: Any, params: Any = None, *, grad_norm: jax.Array | None = None, **extra: Any):
        del params, extra
        norm = optax.tree.norm(updates) if grad_norm is None else grad_norm
        factor = jnp.where(norm < limit, 1.0, limit / norm)
        return jax.tree.map(lambda g: g * factor, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def decay_mask(specs: Any) -> Any:
    """True for parameters that weight decay applies to."""
    return jax.tree.map(lambda spec: spec.decay, specs)


def scale_by_adam(
    b1: float, b2: float, eps: float, bias_correction: Correction
) -> optax.GradientTransformationExtraArgs:
    """m / (sqrt(v) + eps), m and v the running averages of the gradients and of their squares, corrected.

    The extra argument ``good`` (bool scalar): where it is False, m, v and their count stay as they are.
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(count=jnp.zeros([], jnp.int32), mu=zeros(), nu=zeros())

    def update(updates: Any, state: Any, params: Any = None, *, good: jax.Array | bool = True, **extra: Any):
        del params, extra
        count = state.count + jnp.asarray(good, jnp.int32)
        mu = jax.tree.map(lambda m, g: jnp.where(good, b1 * m + (1.0 - b1) * g, m), state.mu, updates)
        nu = jax.tree.map(lambda v, g: jnp.where(good, b2 * v + (1.0 - b2) * jnp.square(g), v), state.nu, updates)
        of_mu, of_nu = bias_correction(b1, count), bias_correction(b2, count)
        updates = jax.tree.map(lambda m, v: (m / of_mu) / (jnp.sqrt(v / of_nu) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformationExtraArgs(init, update)


def one_minus_power(decay: float, count: jax.Array) -> jax.Array | float:
    """1 - decay ** count (Kingma & Ba 2015, algorithm 1), by expm1: taken from a power near 1 it would be 1e-5 off."""
    return -jnp.expm1(count.astype(jnp.float32) * math.log(decay)) if decay else 1.0


def no_correction(decay: float, count: jax.Array) -> jax.Array | float:
    """The plain running averages (google-research/bert AdamWeightDecayOptimizer)."""
    del decay, count
    return 1.0


def scale_by_layer_trust_ratio(specs: Any) -> optax.GradientTransformation:
    """LAMB's ||w|| / ||update|| (You et al. 2019, algorithm 2), per tensor, and per layer where layers are stacked.

    Only for parameters that are decayed, as in NVIDIA's FusedLAMB; 1 where either norm is zero.
    """

    def scaled(u: jax.Array, w: jax.Array, spec: Any) -> jax.Array:
        if not spec.decay:
            return u
        axes = tuple(n for n, axis in enumerate(spec.axes) if axis != "layers")
        w_norm = jnp.sqrt(jnp.sum(jnp.square(w), axes, keepdims=True))
        u_norm = jnp.sqrt(jnp.sum(jnp.square(u), axes, keepdims=True))
        ratio = jnp.where((w_norm > 0) & (u_norm > 0), w_norm / jnp.where(u_norm > 0, u_norm, 1.0), 1.0)
        return u * ratio

    return optax.stateless(lambda updates, params: jax.tree.map(scaled, updates, params, specs))
