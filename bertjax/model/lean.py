"""Layers that keep for the backward pass only what it cannot make again for nothing.

Autodiff of the plain formulas keeps five arrays of a GELU and three float32 arrays of a layer norm; each then goes to
the main memory and back. These keep their input. The plain formulas are what the tests hold them against.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bertjax.model.precision import Precision


class Norm(NamedTuple):
    """The parameters of a layer norm, [H] each."""

    scale: jax.Array
    bias: jax.Array


class Affine(NamedTuple):
    """Those of a projection: [I, O] and [O]."""

    kernel: jax.Array
    bias: jax.Array


def anew(x: jax.Array) -> jax.Array:
    """x, of which the compiler does not know that it is x: what the forward pass computed of it is then computed again,
    not kept under another name."""
    return jax.lax.platform_dependent(x, cuda=_anew_as_integers, default=jax.lax.optimization_barrier)


def _anew_as_integers(x: jax.Array) -> jax.Array:
    # XLA for GPUs widens 16-bit floats for a barrier, which costs a copy.
    bits = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(jax.lax.optimization_barrier(bits), x.dtype)


def _statistics(x: jax.Array, eps: float) -> tuple[jax.Array, jax.Array]:
    """The mean and 1 / deviation over the last axis, float32 [..., 1]."""
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    return mean, jax.lax.rsqrt(jnp.square(wide - mean).mean(-1, keepdims=True) + eps)


def _normalised(x: jax.Array, mean: jax.Array, inverse: jax.Array) -> jax.Array:
    return (x.astype(jnp.float32) - mean) * inverse


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def layer_norm(eps: float, x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last axis of x [..., H], in float32."""
    return (_normalised(x, *_statistics(x, eps)) * _wide(scale, x) + _wide(bias, x)).astype(x.dtype)


def _wide(of_features: jax.Array, x: jax.Array) -> jax.Array:
    """[H] -> [1, ..., H] in the rank of x."""
    return of_features.reshape((1,) * (x.ndim - 1) + of_features.shape)


def _layer_norm_forward(eps, x, scale, bias):
    return layer_norm(eps, x, scale, bias), (x, scale)


def _layer_norm_backward(eps, residuals, cotangent):
    x, scale = residuals
    # XLA for GPUs sums over each row again in every pass over x, and puts a float32 array between those sums and the
    # ones over tokens, unless it is made to write the statistics.
    mean, inverse = jax.lax.platform_dependent(
        *_statistics(x, eps), cuda=lambda *found: jax.lax.optimization_barrier(found), default=lambda *found: found
    )
    normalised = _normalised(x, mean, inverse)
    d_x, d_scale, d_bias = _layer_norm_gradients(normalised, inverse, scale, cotangent)
    return d_x.astype(x.dtype), d_scale, d_bias


def _layer_norm_gradients(
    normalised: jax.Array, inverse: jax.Array, scale: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Those of x, scale and bias, float32."""
    wide = cotangent.astype(jnp.float32)
    scaled = wide * _wide(scale, wide)
    along = scaled.mean(-1, keepdims=True) + normalised * (scaled * normalised).mean(-1, keepdims=True)
    leading = tuple(range(wide.ndim - 1))
    return (scaled - along) * inverse, (wide * normalised).sum(leading), wide.sum(leading)


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


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def normed_projects(
    eps: float, precision: Precision, x: jax.Array, norm: Norm, projections: tuple[Affine, ...]
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """(y, what each projection makes of it) for y = layer_norm(x) [..., H]; x and its statistics are kept, not y."""
    return _normed_projects_forward(eps, precision, x, norm, projections)[0]


def _normed_projects_forward(eps, precision, x, norm, projections):
    mean, inverse = _statistics(x, eps)
    y = _affine(_normalised(x, mean, inverse), norm).astype(x.dtype)
    outputs = tuple(precision.project(y, *projection) for projection in projections)
    return (y, outputs), (x, mean, inverse, norm, projections)


def _normed_projects_backward(eps, precision, residuals, cotangents):
    del eps
    x, mean, inverse, norm, projections = residuals
    d_y, d_outputs = cotangents
    normalised = _normalised(anew(x), mean, inverse)
    y = _flat(_affine(normalised, norm).astype(x.dtype))
    d_y, d_projections = _flat(d_y).astype(jnp.float32), []
    for projection, d_output in zip(projections, map(_flat, d_outputs), strict=True):
        d_kernel = precision.product("ti,to->io", y, d_output, result=projection.kernel.dtype)
        d_projections.append(Affine(d_kernel, d_output.astype(jnp.float32).sum(0)))
        d_y = d_y + precision.product("to,io->ti", d_output, projection.kernel, result=x.dtype)
    d_x, *d_norm = _layer_norm_gradients(normalised, inverse, norm.scale, d_y.reshape(x.shape))
    return d_x.astype(x.dtype), Norm(*d_norm), tuple(d_projections)


normed_projects.defvjp(_normed_projects_forward, _normed_projects_backward)


def _affine(normalised: jax.Array, norm: Norm) -> jax.Array:
    return normalised * _wide(norm.scale, normalised) + _wide(norm.bias, normalised)


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


def activated_project(activation, precision: Precision, x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """activation(x) [..., I] times kernel [I, O] plus bias [O] -> [..., O]. Of the activation only x is kept, or with
    ``precision.keep_activated`` x and the result."""
    flat = _activated_product(activation, precision, x.reshape(-1, x.shape[-1]), kernel)
    flat = flat + jnp.broadcast_to(bias[None, :], flat.shape).astype(precision.activations)
    return flat.reshape(*x.shape[:-1], kernel.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _activated_product(activation, precision: Precision, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return precision.product("ti,io->to", activation(x), kernel)


def _activated_product_forward(activation, precision, x, kernel):
    activated = activation(x).astype(precision.operands)
    kept = activated if precision.keep_activated else None
    return precision.product("ti,io->to", activated, kernel), (x, kept, kernel)


def _activated_product_backward(activation, precision, residuals, cotangent):
    x, kept, kernel = residuals
    activated, back = jax.vjp(activation, anew(x))
    activated = activated if kept is None else kept
    d_kernel = precision.product("ti,to->io", activated, cotangent, result=kernel.dtype)
    return back(precision.product("to,io->ti", cotangent, kernel, result=x.dtype))[0], d_kernel


_activated_product.defvjp(_activated_product_forward, _activated_product_backward)
