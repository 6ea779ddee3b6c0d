"""Rows padded to whole blocks of a kernel, with ids for the padding that meet nobody."""

import jax
import jax.numpy as jnp

from bertjax.model.attention import SegmentIds

_NO_QUERY, _NO_KEY = -1, -2


def padded_rows(x: jax.Array, multiple: int, value: int = 0) -> jax.Array:
    """x [B, S, ...], with ``value`` behind its rows up to a multiple of so many positions."""
    more = -x.shape[1] % multiple
    return jnp.pad(x, [(0, 0), (0, more), *[(0, 0)] * (x.ndim - 2)], constant_values=value) if more else x


def padded_segments(segments: SegmentIds | None, rows: int, queries: int, keys: int, multiple: int) -> SegmentIds:
    """The ids of padded rows; None: all queries and keys of a row meet, but for the padding."""
    ids = segments or SegmentIds(jnp.ones((rows, queries), jnp.int32), jnp.ones((rows, keys), jnp.int32))
    return SegmentIds(padded_rows(ids.query, multiple, _NO_QUERY), padded_rows(ids.key, multiple, _NO_KEY))
