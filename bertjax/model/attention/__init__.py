"""The attention contract. Each kernel is a file here with a function ``attend``, and a row in
``bertjax.attention_kernels``, which says what it supports.

``attend(query, key, value, segments, window, dropout, *, precision, backend)``: query [B, Sq, N, D], key and value
[B, S, N, D] -> [B, Sq, N, D] in ``precision.activations``. The Sq queries are the first positions of the row. segments:
None, all see all. window: a query sees keys at most window // 2 places away, on either side; None, all of them.
dropout: the rate and the keys of the mask on the probabilities, whose elements are numbered as [N, Sq, S]
(``model.dropout``). backend: that of the devices which the program is compiled for.
"""

import functools
import importlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bertjax.attention_kernels import Demand, choose
from bertjax.config import ModelConfig
from bertjax.errors import ConfigError
from bertjax.model.dropout import Dropout
from bertjax.model.precision import Precision

# The contract, with the precision bound.
Attend = Callable[[jax.Array, jax.Array, jax.Array, "SegmentIds | None", int | None, Dropout | None], jax.Array]


class SegmentIds(NamedTuple):
    """A position attends to those whose key number equals its query number; both int32 [B, S].

    For packed rows both are the example ids. For an attention mask the queries are 1 and the keys are the mask: padding
    attends to tokens, as in other implementations, and no token attends to padding.
    """

    query: jax.Array
    key: jax.Array


def allowed(queries: int, keys: int, segments: SegmentIds | None, window: int | None) -> jax.Array | None:
    """bool [B or 1, 1, Sq, S]: whether a query attends to a key; None: all do."""
    mask = None if segments is None else segments.query[:, None, :, None] == segments.key[:, None, None, :]
    if window is None:
        return mask
    near = jnp.abs(jnp.arange(queries)[:, None] - jnp.arange(keys)[None, :]) <= window // 2
    return near[None, None] if mask is None else mask & near[None, None]


def kernel_name(config: ModelConfig, precision: Precision, window: bool = False, backend: str | None = None) -> str:
    """The kernel that a model's config asks for, or the fastest for "auto". backend: jax's default one if None. Raises
    ConfigError for a kernel that does not support what the model asks for."""
    demand = Demand(
        dropout=config.attention_probs_dropout_prob > 0.0,
        window=window,
        backend=backend or jax.default_backend(),
        float_type=str(precision.operands),
        head_size=config.hidden_size // config.num_attention_heads,
        length=config.max_position_embeddings,
    )
    return choose(config.attention, demand)


@functools.cache  # equal calls give the same object, so that models alike share compiled programs
def kernel(name: str, precision: Precision, backend: str | None = None) -> Attend:
    """The function of a kernel on a backend; by default that of jax. Raises ConfigError where an installed package
    lacks what the kernel is made of."""
    try:
        attend = importlib.import_module(f"{__name__}.{name}").attend
    except ImportError as missing:
        raise ConfigError(f"attention = {name!r} does not run with the installed packages: {missing}") from missing
    return functools.partial(attend, precision=precision, backend=backend or jax.default_backend())
