"""Parameters and floating-point operations of the model, from the parameters that it declares."""

from __future__ import annotations

import functools
from typing import Any

from flax import nnx
from flax.traverse_util import flatten_dict

from bertjax.config import ModelConfig
from bertjax.model.bert import Bert
from bertjax.model.parameters import parameter_specs


def train_flops_per_row(model: ModelConfig, length: int, predictions: int, num_positions: int | None = None) -> float:
    """FLOPs of one row, forward and backward, nothing recomputed: two per multiply-add, the backward pass counted as
    twice the forward.

    In the BERT of 2018 that is 3 * (S L (8 H^2 + 4 H F + 4 S H) + P (2 H^2 + 2 H V)). num_positions: how many the last
    layer computes (None: all S); it still needs the keys and values of every position.
    """
    H, L, V = model.hidden_size, model.num_hidden_layers, model.vocab_size
    keys_and_values, others = _matrix_sizes(model)
    positions = length * L if num_positions is None else length * (L - 1) + min(num_positions, length)
    at_query = 2 * others + 4 * length * H
    return 3.0 * (length * L * 2 * keys_and_values + positions * at_query + predictions * (2 * H * H + 2 * H * V))


def parameter_count(model: ModelConfig) -> int:
    """Numbers in the parameters of a model with its pretraining heads; the vocabulary counts as padded."""
    return sum(size for _, size in _parameters(model).values())


def _matrix_sizes(model: ModelConfig) -> tuple[int, int]:
    """(numbers in the matrices of a layer that make keys and values, in all its others)."""
    matrices = {
        path: size for path, (axes, size) in _parameters(model).items() if axes[0] == "layers" and len(axes) > 2
    }
    keys_and_values = sum(size for path, size in matrices.items() if {"key", "value"} & set(path))
    L = model.num_hidden_layers
    return keys_and_values // L, (sum(matrices.values()) - keys_and_values) // L


@functools.lru_cache(maxsize=64)
def _parameters(model: ModelConfig) -> dict[Any, tuple[tuple[str, ...], int]]:
    """Path -> (logical axes, numbers in it) of every parameter."""
    abstract = nnx.eval_shape(lambda: Bert(model, nnx.Rngs(0)))
    specs: dict[Any, Any] = flatten_dict(parameter_specs(abstract))
    return {path: (specs[path].axes, leaf.get_value().size) for path, leaf in nnx.to_flat_state(nnx.state(abstract))}
