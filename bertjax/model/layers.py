"""The two layers that everything else is made of: an affine map and a layer norm, and their initial values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from bertjax.model.precision import Precision

ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),  # x * Phi(x), by erf
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),  # the tanh form of google-research/bert
    "relu": jax.nn.relu,
}


def truncated_normal(key: jax.Array, shape: tuple[int, ...], stddev: float) -> jax.Array:
    """Normal values redrawn beyond two ``stddev``, as ``tf.truncated_normal_initializer`` does.

    The spread of what remains is .88 ``stddev``; the 2018 code does not correct for it, so neither do we.
    """
    return stddev * jax.random.truncated_normal(key, -2.0, 2.0, shape, jnp.float32)


class Linear(nnx.Module):
    """x [..., I] -> x @ kernel + bias [..., O]. Parameters: kernel [*stack, I, O], bias [*stack, O]."""

    def __init__(self, inputs: int, outputs: int, stddev: float, rngs: nnx.Rngs, stack: tuple[int, ...] = ()):
        self.kernel = nnx.Param(truncated_normal(rngs.params(), (*stack, inputs, outputs), stddev))
        self.bias = nnx.Param(jnp.zeros((*stack, outputs), jnp.float32))

    def __call__(self, x: jax.Array, precision: Precision) -> jax.Array:
        return precision.project(x, self.kernel[...], self.bias[...])


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last axis H, in float32."""

    def __init__(self, size: int, eps: float, stack: tuple[int, ...] = ()):
        self.scale = nnx.Param(jnp.ones((*stack, size), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((*stack, size), jnp.float32))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        mean = wide.mean(-1, keepdims=True)
        centred = wide - mean
        variance = jnp.square(centred).mean(-1, keepdims=True)
        scale, bias = (p[...].reshape((1,) * (x.ndim - 1) + (-1,)) for p in (self.scale, self.bias))
        return (centred * jax.lax.rsqrt(variance + self.eps) * scale + bias).astype(x.dtype)
