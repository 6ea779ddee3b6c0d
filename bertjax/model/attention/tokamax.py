"""Attention of the optional package ``tokamax`` for GPUs: segments and windows as one interval of keys a query.

No dropout. The intervals are no part of its public functions yet, so this file names its modules and is written for
version 0.0.12; another that lacks them is refused.
"""

import jax
import jax.numpy as jnp
from absl import flags
from tokamax._src.ops.attention.api import IMPLEMENTATIONS
from tokamax._src.ops.attention.base import Mask

from bertjax.model.attention import SegmentIds
from bertjax.model.dropout import Dropout
from bertjax.model.precision import Precision

# The first that serves the card: Hopper and later, then others. The last one is for tests.
ON_BACKEND = {"gpu": ("mosaic_gpu", "triton"), "cpu": ("xla",)}


def attend(
    query,
    key,
    value,
    segments: SegmentIds | None,
    window: int | None,
    dropout: Dropout | None,
    *,
    precision: Precision,
    backend: str,
) -> jax.Array:
    """See ``bertjax.model.attention``. A query whose keys do not stand side by side gets NaN, one without keys zeros.

    Raises ValueError for dropout, NotImplementedError where no implementation serves the card.
    """
    if dropout is not None:
        raise ValueError("attention = 'tokamax' has no dropout on attention probabilities")
    start, end, holes = intervals(query.shape[1], key.shape[1], segments, window)
    none = end == start
    mask = Mask(k_start=start[:, None], k_end=jnp.where(none, key.shape[1], end)[:, None])
    query, key, value = (jnp.asarray(x, precision.operands) for x in (query, key, value))
    out = _run(ON_BACKEND[backend], query, key, value, mask, precision).astype(precision.activations)
    out = jnp.where(none[..., None, None], 0.0, out)
    return jnp.where(holes[..., None, None], jnp.nan, out).astype(precision.activations)


def intervals(
    queries: int, keys: int, segments: SegmentIds | None, window: int | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[B or 1, Sq] each: a query's first key, one past its last (0, 0 for none), and whether it may not see one between
    them."""
    sees = jnp.ones((1, queries, keys), bool)
    if segments is not None:
        sees = segments.query[:, :, None] == segments.key[:, None, :]
    first, last = sees.argmax(axis=2), keys - sees[:, :, ::-1].argmax(axis=2)
    holes = sees.sum(axis=2) < jnp.where(sees.any(axis=2), last - first, 0)
    if window is not None:
        place = jnp.arange(queries)[None]
        first, last = jnp.maximum(first, place - window // 2), jnp.minimum(last, place + window // 2 + 1)
    some = sees.any(axis=2) & (first < last)
    return jnp.where(some, first, 0), jnp.where(some, last, 0), holes


def _run(names, query, key, value, mask, precision):
    product = jax.lax.Precision.HIGHEST if precision.operands == jnp.float32 else jax.lax.Precision.DEFAULT
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # else tokamax parses the command line, and ends at flags that are not its own
    for name in names:
        try:
            with jax.numpy_rank_promotion("allow"):
                return IMPLEMENTATIONS[name](query, key, value, mask=mask, precision=product)
        except (KeyError, NotImplementedError) as problem:
            reason = f"{name}: {problem}"
    raise NotImplementedError(f"attention = 'tokamax' serves no such card or shape; {reason}")
