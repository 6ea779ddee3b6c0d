"""Which dtypes the model computes in: one table, and the products that follow it.

Parameters are float32. Layer norms, softmax, losses and every sum over tokens are computed in float32 at any precision:
in bfloat16 a sum of ones ends at 256. The rest follows ``Precision``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from bertjax.model import cpu_products

# ``(spec, a, b, dtype of the result)``; the factors are rounded already.
Einsum = Callable[[str, jax.Array, jax.Array, jnp.dtype], jax.Array]


def _einsum(spec: str, a: jax.Array, b: jax.Array, result: jnp.dtype) -> jax.Array:
    return jnp.einsum(spec, a, b, preferred_element_type=result)


# How a product of two float32 arrays is computed: with all their bits, or some of them.
Algorithm = jax.lax.Precision | jax.lax.DotAlgorithmPreset


@dataclass(frozen=True)
class Precision:
    """``operands``: dtype of the factors of matrix products. ``activations``: dtype of what flows between layers.
    ``einsum``: how products in the lower precisions are done; ``algorithm``: those of float32 factors.
    ``keep_activated``: the backward pass reads what the MLP's activation gave instead of computing it again.
    ``is_fp8``: whether layers multiply by their kernels in 8 bits (``model.fp8``)."""

    operands: jnp.dtype
    activations: jnp.dtype
    einsum: Einsum = _einsum
    algorithm: Algorithm = jax.lax.Precision.HIGHEST
    keep_activated: bool = False
    is_fp8: bool = False

    def product(self, spec: str, a: jax.Array, b: jax.Array, result: jnp.dtype | None = None) -> jax.Array:
        """``jnp.einsum(spec, a, b)``, accumulated in float32, returned as ``result`` (default ``activations``).

        Each letter of ``spec`` must stand in two of its three terms, so that the two gradients are products
        of the same kind. In the lower precisions the gradients' factors are rounded to ``operands`` as well.
        """
        if self.operands == jnp.float32:
            return jnp.einsum(spec, a, b, precision=self.algorithm, preferred_element_type=jnp.float32)
        return _rounded_product(spec, self.operands, result or self.activations, self.einsum, a, b)

    def project(self, x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        """x [..., I] times kernel [I, O] plus bias [O] -> [..., O]."""
        # One flat matrix: on CPUs the weight gradient is a third faster than over two leading axes.
        flat = self.product("ti,io->to", x.reshape(-1, x.shape[-1]), kernel)
        # A row for each token before it is rounded: its gradient is then summed over the tokens in float32.
        flat = flat + jnp.broadcast_to(bias[None, :], flat.shape).astype(self.activations)
        return flat.reshape(*x.shape[:-1], kernel.shape[-1])


def precision_named(name: str, backend: str) -> Precision:
    """The dtypes behind a config's ``precision`` on a backend ("cpu", "gpu", "tpu")."""
    # GPUs have memory for it: a quarter of what the layers move is of the MLP's activation.
    keep = backend == "gpu"
    if name == "tf32":
        return Precision(FLOAT32.operands, FLOAT32.activations, algorithm=TF32[backend], keep_activated=keep)
    # A run decides what "auto" is before it makes anything of it; a plan of one takes what accelerators run.
    name = "bfloat16" if name == "auto" else name
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16, "fp8": jnp.bfloat16}
    operands = dtypes[name]
    # CPUs are 4 to 10 times slower at element-wise work in 16 bits, so there only the products' factors are rounded.
    activations = jnp.float32 if backend == "cpu" else operands
    einsum = cpu_products.einsum if backend == "cpu" and operands == jnp.bfloat16 else _einsum
    is_fp8 = name == "fp8"
    return Precision(jnp.dtype(operands), jnp.dtype(activations), einsum, keep_activated=keep, is_fp8=is_fp8)


FLOAT32 = Precision(jnp.dtype(jnp.float32), jnp.dtype(jnp.float32))

# Factors of 8 exponent and 10 mantissa bits, as tensor cores of GPUs take them. TPUs have no such products: three of
# bfloat16 come nearest, with some 16 bits. Nor have CPUs, where products stay float32.
TF32: dict[str, Algorithm] = {
    "gpu": jax.lax.DotAlgorithmPreset.TF32_TF32_F32,
    "tpu": jax.lax.Precision.HIGH,
    "cpu": jax.lax.Precision.HIGHEST,
}


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _rounded_product(
    spec: str, operands: jnp.dtype, result: jnp.dtype, einsum: Einsum, a: jax.Array, b: jax.Array
) -> jax.Array:
    return einsum(spec, a.astype(operands), b.astype(operands), result)


def _rounded_product_forward(spec, operands, result, einsum, a, b):
    # The rounded factors are kept, not the originals: half the memory. Zero-size arrays carry the dtypes.
    rounded = (a.astype(operands), b.astype(operands))
    return einsum(spec, *rounded, result), (*rounded, jnp.zeros(0, a.dtype), jnp.zeros(0, b.dtype))


def _rounded_product_backward(spec, operands, result, einsum, residuals, cotangent):
    del result
    a, b, a_like, b_like = residuals
    (a_dims, b_dims), out_dims = spec.split("->")[0].split(","), spec.split("->")[1]
    cotangent = cotangent.astype(operands)
    return (
        einsum(f"{out_dims},{b_dims}->{a_dims}", cotangent, b, a_like.dtype),
        einsum(f"{a_dims},{out_dims}->{b_dims}", a, cotangent, b_like.dtype),
    )


_rounded_product.defvjp(_rounded_product_forward, _rounded_product_backward)
