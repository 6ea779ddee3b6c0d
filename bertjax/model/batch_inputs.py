"""What a caller may hand to the model: lists, NumPy or JAX arrays of ids, checked and named when wrong."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def checked_ids(name: str, value: Any, below: int, shape: tuple[int | None, ...]) -> jax.Array:
    """``value`` as int32 of this shape (None: any size), all of it in 0 .. ``below`` - 1. Raises ValueError.

    Values of arrays that are being traced cannot be seen; of these only shape and dtype are checked.
    """
    array = value if isinstance(value, jax.Array) else _as_numpy(name, value)
    if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape [{wanted}], not {list(array.shape)}")
    if not (jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool):
        raise ValueError(f"{name} must be integers, not {array.dtype}")
    if array.size == 0:
        raise ValueError(f"{name} is empty: its shape is {list(array.shape)}")
    if not isinstance(array, Tracer):
        seen = np.asarray(array)
        least, most = int(seen.min()), int(seen.max())
        if least < 0 or most >= below:
            raise ValueError(f"{name} must lie in 0 .. {below - 1}; found {least if least < 0 else most}")
    return jnp.asarray(array, jnp.int32)


def checked_mask(name: str, value: Any, shape: tuple[int, ...]) -> jax.Array:
    """A mask of ones and zeros, of any number type, as int32 of this shape. Raises ValueError."""
    array = value if isinstance(value, jax.Array) else _as_numpy(name, value)
    if jnp.issubdtype(array.dtype, jnp.floating):
        if not isinstance(array, Tracer) and not np.isin(np.asarray(array), (0, 1)).all():
            raise ValueError(f"{name} must hold ones and zeros")
        array = array.astype(np.int32)
    return checked_ids(name, array, 2, shape)


def _as_numpy(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        lengths = sorted({len(row) for row in value if hasattr(row, "__len__")}) if isinstance(value, list) else []
        what = f"its rows have lengths {lengths}" if len(lengths) > 1 else f"got {type(value).__name__}"
        raise ValueError(
            f"{name} must be a rectangle of numbers ({what}); bertjax.encode(tokenizer, texts) pads texts of unequal "
            f"length and gives the attention_mask"
        )
    return array
