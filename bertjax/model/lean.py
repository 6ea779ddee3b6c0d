"""Layers that keep for the backward pass only what it cannot make again for nothing.

Autodiff of the plain formulas keeps five arrays of a GELU and three float32 arrays of a layer norm; each then goes to
the main memory and back. These keep their input. The plain formulas are what the tests hold them against.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp

from bertjax.model.precision import Precision


def _normalised(x: jax.Array, eps: float) -> tuple[jax.Array, jax.Array]:
    """(x - mean) / deviation over the last axis, and 1 / deviation [..., 1], float32."""
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + eps)
    return centred * inverse, inverse


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def layer_norm(eps: float, x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last axis of x [..., H], in float32."""
    return (_normalised(x, eps)[0] * _wide(scale, x) + _wide(bias, x)).astype(x.dtype)


def _wide(of_features: jax.Array, x: jax.Array) -> jax.Array:
    """[H] -> [1, ..., H] in the rank of x."""
    return of_features.reshape((1,) * (x.ndim - 1) + of_features.shape)


def _layer_norm_forward(eps, x, scale, bias):
    return layer_norm(eps, x, scale, bias), (x, scale)


def _layer_norm_backward(eps, residuals, cotangent):
    x, scale = residuals
    normalised, inverse = _normalised(x, eps)
    wide = cotangent.astype(jnp.float32)
    scaled = wide * _wide(scale, x)
    along = scaled.mean(-1, keepdims=True) + normalised * (scaled * normalised).mean(-1, keepdims=True)
    leading = tuple(range(x.ndim - 1))
    return ((scaled - along) * inverse).astype(x.dtype), (wide * normalised).sum(leading), wide.sum(leading)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def _normal(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x and Phi(x), the standard normal distribution function, in float32 or wider."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return wide, 0.5 + 0.5 * jax.lax.erf(wide * math.sqrt(0.5))


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """x * Phi(x) (Hendrycks & Gimpel 2016), computed in float32 by erf: of jax.nn.gelu, which takes erfc, CPUs make
    three times the work. Below -5 it is off by up to 3e-8 |x|, where it is under 2e-6 anyway."""
    wide, phi = _normal(x)
    return (wide * phi).astype(x.dtype)


def _gelu_backward(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    wide, phi = _normal(x)
    density = jnp.exp(-0.5 * jnp.square(wide)) * (1.0 / math.sqrt(2.0 * math.pi))
    return ((cotangent * (phi + wide * density)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


def activated_project(activation, precision: Precision, x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """activation(x) [..., I] times kernel [I, O] plus bias [O] -> [..., O]; of the activation only x is kept."""
    flat = _activated_product(activation, precision, x.reshape(-1, x.shape[-1]), kernel)
    flat = flat + jnp.broadcast_to(bias[None, :], flat.shape).astype(precision.activations)
    return flat.reshape(*x.shape[:-1], kernel.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _activated_product(activation, precision: Precision, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return precision.product("ti,io->to", activation(x), kernel)


def _activated_product_forward(activation, precision, x, kernel):
    return _activated_product(activation, precision, x, kernel), (x, kernel)


def _activated_product_backward(activation, precision, residuals, cotangent):
    x, kernel = residuals
    # What the forward pass computed is not to be kept under another name: the barrier makes it new work.
    x = jax.lax.optimization_barrier(x)
    activated, back = jax.vjp(activation, x)
    d_kernel = precision.product("ti,to->io", activated, cotangent, result=kernel.dtype)
    return back(precision.product("to,io->ti", cotangent, kernel, result=x.dtype))[0], d_kernel


_activated_product.defvjp(_activated_product_forward, _activated_product_backward)
