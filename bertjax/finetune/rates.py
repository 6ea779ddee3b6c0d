"""How fast each part of a model learns: slower from layer to layer downwards, or not at all."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bertjax.config import ModelConfig
from bertjax.model.task import POOLED


def multipliers(params: Any, model: ModelConfig, kind: str, layer_decay: float, frozen_layers: int | None) -> Any:
    """For every parameter (or ShapeDtypeStruct) a float, or for stacked layers an array [L, 1, ...].

    layer_decay ** (L + 1 - depth), where the embeddings have depth 0, layer i (from 0) has i + 1, and what is above
    has L + 1 (Howard and Ruder 2018; the sizes of steps as in ELECTRA's run_finetuning.py). 0 for the embeddings and
    the first ``frozen_layers`` layers, and for a pooler that ``kind`` has no use for.
    """
    L = model.num_hidden_layers
    rates = layer_decay ** (L + 1.0 - np.arange(L + 2))
    if frozen_layers is not None:
        rates[: frozen_layers + 1] = 0.0

    def rate(path: tuple[Any, ...], x: Any) -> Any:
        names = [key.key for key in path]
        if "embeddings" in names:
            return float(rates[0])
        if "layers" in names:
            return rates[1 : L + 1].astype(np.float32).reshape(L, *[1] * (len(x.shape) - 1))
        if "pooler" in names and kind not in POOLED:
            return 0.0
        return float(rates[L + 1])

    return jax.tree_util.tree_map_with_path(rate, params)


def held(params: Any, rates: Any) -> Any:
    """The parameters, those with rate 0 without a gradient: it is exactly 0 and in no norm."""

    def hold(p: jax.Array, rate: Any) -> jax.Array:
        if np.all(rate == 0):
            return jax.lax.stop_gradient(p)
        return p if np.all(rate != 0) else jnp.where(rate == 0, jax.lax.stop_gradient(p), p)

    return jax.tree.map(hold, params, rates)


def scale_by_rates(rates: Any) -> optax.GradientTransformation:
    """Multiplies the updates, weight decay included."""

    def update(updates: Any, state: Any, params: Any = None):
        del params
        return jax.tree.map(lambda u, rate: u * rate, updates, rates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
