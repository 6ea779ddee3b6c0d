"""How many parameters a model has, and how many floating-point operations it takes, from the shapes it declares."""

import functools
import math

from flax import nnx
from flax.traverse_util import flatten_dict

from bertjax.config import ModelConfig
from bertjax.model.bert import Bert, split_params
from bertjax.model.block import BlockSpec, bert

_LAYER = "encoder/layers/"
_OF_ALL_POSITIONS = tuple(f"{_LAYER}attention/{name}/kernel" for name in ("key", "value"))


@functools.lru_cache(maxsize=1024)
def _sizes(model: ModelConfig) -> dict[str, int]:
    """Path of each parameter of a model with pretraining heads -> how many numbers it holds."""
    params = split_params(nnx.eval_shape(lambda: Bert(model, nnx.Rngs(0))))[1]
    return {path: math.prod(x.shape) for path, x in flatten_dict(params, sep="/").items()}


def train_flops_per_row(
    model: ModelConfig,
    length: int,
    predictions: int,
    num_positions: int | None = None,
    spec: BlockSpec | None = None,
) -> float:
    """FLOPs of one row, forward and backward, nothing recomputed.

    Two per multiply-add, the backward pass counted as twice the forward; for the layers of 2018 this is
    3 * (S L (8 H^2 + 4 H F + 4 S H) + P (2 H^2 + 2 H V)). num_positions: how many the last layer computes (None: all
    S); it still needs keys and values of every position. spec: of the layers, by default that of 2018; with a window,
    a query meets only the keys inside it.
    """
    H, L, V = model.hidden_size, model.num_hidden_layers, model.vocab_size
    windows = (spec or bert(model)).windows
    kernels = {p: n // L for p, n in _sizes(model).items() if p.startswith(_LAYER) and p.endswith("/kernel")}
    of_all = 2 * sum(kernels[path] for path in _OF_ALL_POSITIONS)
    at_query = 2 * sum(kernels.values()) - of_all
    flops = predictions * (2 * H * H + 2 * H * V)
    for layer in range(L):
        queries = length if num_positions is None or layer < L - 1 else min(num_positions, length)
        met = _pairs(queries, length, windows[layer % len(windows)])
        flops += length * of_all + queries * at_query + 4 * met * H
    return 3.0 * flops


def _pairs(queries: int, length: int, window: int | None) -> int:
    """Pairs of one of the first positions as query and a key that it sees: at most window // 2 places away."""
    if window is None:
        return queries * length
    reach = window // 2
    return sum(min(at, reach) + min(length - 1 - at, reach) + 1 for at in range(queries))


def parameter_count(model: ModelConfig) -> int:
    """Numbers in the parameters of a model with its pretraining heads; the vocabulary counts as padded."""
    return sum(_sizes(model).values())
