"""The parameters of the encoder's layers: stacked on a leading axis [L, ...], or as one array for each layer.

States, checkpoints and scans hold stacks. Where layers are unrolled, the gradient is better taken by the single arrays:
each is then added up inside the product that makes it, instead of in passes over the whole stack.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Unstacked(NamedTuple):
    """L arrays in the place of a stack [L, ...]."""

    layers: tuple[jax.Array, ...]


def is_unstacked(x: Any) -> bool:
    return isinstance(x, Unstacked)


def unstacked(params: Any, axes: Any) -> Any:
    """``params`` with single arrays in the place of every stack. axes: the logical axes of each parameter."""
    split = lambda p, names: Unstacked(_layers(p)) if names[0] == "layers" else p
    return jax.tree.map(split, params, axes)


def stacked(params: Any) -> Any:
    """The inverse of ``unstacked``."""
    return jax.tree.map(lambda p: jnp.stack(p.layers) if is_unstacked(p) else p, params, is_leaf=is_unstacked)


def each_layer(params: Any) -> list[Any]:
    """The trees of the single layers, of a tree of stacks in either form."""
    leaves, tree = jax.tree.flatten(params, is_leaf=is_unstacked)
    single = [p.layers if is_unstacked(p) else _layers(p) for p in leaves]
    return [jax.tree.unflatten(tree, layer) for layer in zip(*single, strict=True)]


@jax.custom_vjp
def _layers(stack: jax.Array) -> tuple[jax.Array, ...]:
    """[L, ...] -> L arrays. The gradient is one concatenation; that of L slices would be a sum of L padded arrays."""
    return tuple(stack[i] for i in range(stack.shape[0]))


_layers.defvjp(lambda stack: (_layers(stack), None), lambda _, cotangents: (jnp.stack(cotangents),))
