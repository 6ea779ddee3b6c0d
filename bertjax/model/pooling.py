"""One vector for a text from the vectors of its tokens."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def _mean(sequence: jax.Array, present: jax.Array | None) -> jax.Array:
    """The mean over the tokens, special ones included (Reimers and Gurevych 2019)."""
    wide = sequence.astype(jnp.float32)
    if present is None:
        return wide.mean(axis=1)
    weights = present.astype(jnp.float32)[:, :, None]
    return (wide * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1.0)


# ``(sequence_output [B, S, H], which of it are tokens [B, S], None: all) -> float32 [B, H]``
POOLINGS: dict[str, Callable[[jax.Array, jax.Array | None], jax.Array]] = {
    "mean": _mean,
    "cls": lambda sequence, present: sequence[:, 0].astype(jnp.float32),
}
