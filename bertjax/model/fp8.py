"""Products of 8-bit factors with delayed scaling (Micikevicius et al. 2022, "FP8 formats for deep learning").

Inputs and kernels are rounded to e4m3 (3 mantissa bits), the gradients that come back to e5m2 (5 exponent bits). Each
is first scaled so that its largest value would just fit. That value is not known before it is computed, and another
pass over the array would cost what the format saves; so the scale is that of the last ``HISTORY`` steps, and what is
beyond it saturates.

The largest values are a part of the training state: an array ``scaling`` [3, HISTORY] beside each kernel, a row for
input, kernel and gradient, the newest first, zeros before the first step. The product gives back, as its "gradient" by
that array, the largest values that it saw, and a one beside each. So they add up as gradients do, over parts of a batch
and devices, and ``recorded`` takes the mean.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

HISTORY = 16
SIZES = {"factors": 3, "history": HISTORY}  # axes of the array
NAME = "scaling"  # of the array, in the nested dict of a model's arrays
_FORWARD, _BACKWARD = jnp.float8_e4m3fn, jnp.float8_e5m2
_TYPES = (_FORWARD, _FORWARD, _BACKWARD)
# Powers of two that stay free above the largest value of the last steps.
_MARGIN = 1
# The largest values in the first step, roughly: behind a layer norm, of new kernels, of gradients of a mean loss.
_AT_FIRST = (16.0, 0.125, 2.0**-8)


def scales(scaling: jax.Array) -> jax.Array:
    """[3, HISTORY] -> [3]: powers of two, so that scaling rounds nothing."""
    largest = jnp.max(scaling, axis=1)
    largest = jnp.where(largest > 0.0, largest, jnp.asarray(_AT_FIRST, jnp.float32))
    limits = jnp.asarray([float(jnp.finfo(kind).max) for kind in _TYPES], jnp.float32)
    # limits / largest = m 2^e with m in [.5, 1): 2^(e - 1) is the power below. exp2 of a whole number is not exact.
    _, exponents = jnp.frexp(limits / largest)
    return jnp.ldexp(jnp.ones_like(limits), jnp.clip(exponents - 1 - _MARGIN, -60, 60))


def _rounded(x: jax.Array, scale: jax.Array, kind: Any) -> jax.Array:
    limit = float(jnp.finfo(kind).max)
    return jnp.clip(x.astype(jnp.float32) * scale, -limit, limit).astype(kind)


def _product(a: jax.Array, b: jax.Array, contracted: tuple[int, int], unscale: jax.Array, result: Any) -> jax.Array:
    """Over axis ``contracted[0]`` of a and ``contracted[1]`` of b, accumulated in float32."""
    numbers = (((contracted[0],), (contracted[1],)), ((), ()))
    out = jax.lax.dot_general(a, b, numbers, preferred_element_type=jnp.float32)
    return (out * unscale).astype(result)


def _largest(x: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(x.astype(jnp.float32)))


@jax.custom_vjp
def scaled_product(x: jax.Array, kernel: jax.Array, scaling: jax.Array) -> jax.Array:
    """x [T, I] times kernel [I, O] -> [T, O] in the dtype of x. scaling: [3, HISTORY], see above."""
    return _forward(x, kernel, scaling)[0]


def _forward(x: jax.Array, kernel: jax.Array, scaling: jax.Array):
    scale = scales(scaling)
    rounded_x, rounded_kernel = _rounded(x, scale[0], _FORWARD), _rounded(kernel, scale[1], _FORWARD)
    y = _product(rounded_x, rounded_kernel, (1, 0), 1.0 / (scale[0] * scale[1]), x.dtype)
    # Zero-size arrays carry the dtypes.
    like = jnp.zeros(0, x.dtype), jnp.zeros(0, kernel.dtype)
    return y, (rounded_x, rounded_kernel, scale, jnp.stack([_largest(x), _largest(kernel)]), like)


def _backward(residuals, cotangent: jax.Array):
    x, kernel, scale, largest, (x_like, kernel_like) = residuals
    rounded = _rounded(cotangent, scale[2], _BACKWARD)
    d_x = _product(rounded, kernel, (1, 1), 1.0 / (scale[2] * scale[1]), x_like.dtype)
    d_kernel = _product(x, rounded, (0, 0), 1.0 / (scale[0] * scale[2]), kernel_like.dtype)
    seen = jnp.concatenate([largest, _largest(cotangent)[None]])
    rest = jnp.zeros((len(_TYPES), HISTORY - 2), jnp.float32)
    d_scaling = jnp.concatenate([seen[:, None], jnp.ones_like(seen)[:, None], rest], axis=1)
    return d_x, d_kernel, d_scaling


scaled_product.defvjp(_forward, _backward)


def scaled_project(x: jax.Array, kernel: jax.Array, bias: jax.Array, scaling: jax.Array) -> jax.Array:
    """x [..., I] times kernel [I, O] plus bias [O] -> [..., O]"""
    flat = scaled_product(x.reshape(-1, x.shape[-1]), kernel, scaling)
    # A row for each token before it is rounded: its gradient is then summed over the tokens in float32.
    flat = flat + jnp.broadcast_to(bias[None, :], flat.shape).astype(flat.dtype)
    return flat.reshape(*x.shape[:-1], kernel.shape[-1])


def recorded(scaling: Any, seen: Any) -> Any:
    """The histories after a step, [..., 3, HISTORY] each. seen: their sums of "gradients"; what is not finite is left
    out."""

    def one(history: jax.Array, sums: jax.Array) -> jax.Array:
        newest = sums[..., 0] / jnp.maximum(sums[..., 1], 1.0)
        newest = jnp.where(jnp.isfinite(newest), newest, history[..., 0])
        return jnp.concatenate([newest[..., None], history[..., :-1]], axis=-1)

    return jax.tree.map(one, scaling, seen)


def apart(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A nested dict as (what is not named ``scaling``, what is), each without empty dicts. Inverse: ``joined``."""
    others: dict[str, Any] = {}
    scaling: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            for part, found in zip((others, scaling), apart(value), strict=True):
                if found:
                    part[name] = found
        else:
            (scaling if name == NAME else others)[name] = value
    return others, scaling


def joined(tree: Mapping[str, Any], scaling: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(tree)
    for name, value in scaling.items():
        both[name] = joined(both.get(name, {}), value) if isinstance(value, Mapping) else value
    return both
