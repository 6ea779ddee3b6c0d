"""Products of bfloat16 factors as CPUs run them fast.

XLA's CPU library multiplies bfloat16 factors at twice the speed of float32 only where the first factor's last dimension
is summed over. All other products, those of the weights' gradients among them, it converts to float32.
"""

import math

import jax
import jax.numpy as jnp

# Rows of zeros below a transposed factor. XLA folds a bare transpose into the product, whatever stands between them,
# which is then the slow one again; a padded copy it has to make.
_PADDING = 8


def einsum(spec: str, a: jax.Array, b: jax.Array, result: jnp.dtype) -> jax.Array:
    """``jnp.einsum(spec, a, b, preferred_element_type=result)`` for two-factor products. Where the second last
    dimension of both factors is summed over, one of them is transposed first: the one that leaves less to move."""
    (a_dims, b_dims), out_dims = spec.split("->")[0].split(","), spec.split("->")[1]
    summed = [letter for letter in a_dims if letter in b_dims and letter not in out_dims]
    batch = out_dims[:-2]
    if summed != [a_dims[-2:-1]] or a_dims[:-2] != batch or b_dims[:-2] != batch or b_dims[-2] != summed[0]:
        return jnp.einsum(spec, a, b, preferred_element_type=result)
    if a_dims[-1] != out_dims[-2]:  # the factor that gives the rows of the result comes first
        a, b = b, a
    if a.size > b.size + math.prod(a.shape[:-2]) * a.shape[-1] * b.shape[-1]:
        return _over_rows(b, a, result).swapaxes(-1, -2)
    return _over_rows(a, b, result)


def _over_rows(a: jax.Array, b: jax.Array, result: jnp.dtype) -> jax.Array:
    """[..., t, i], [..., t, o] -> [..., i, o]"""
    columns = jnp.pad(a.swapaxes(-1, -2), [(0, 0)] * (a.ndim - 2) + [(0, _PADDING), (0, 0)])
    return jnp.matmul(columns, b, preferred_element_type=result)[..., : a.shape[-1], :]
