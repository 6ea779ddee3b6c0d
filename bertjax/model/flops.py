"""Parameters and floating-point operations of the model, by formula."""

from __future__ import annotations

from bertjax.config import ModelConfig
from bertjax.model.parameters import padded_vocabulary


def train_flops_per_row(model: ModelConfig, length: int, predictions: int, num_positions: int | None = None) -> float:
    """FLOPs of one row, forward and backward, nothing recomputed.

    3 * (S L (8 H^2 + 4 H F + 4 S H) + P (2 H^2 + 2 H V)): two per multiply-add, the backward pass counted as
    twice the forward. With F = 4 H the layer term is the usual 24 H^2 + 4 S H. num_positions: how many the
    last layer computes (None: all S); it still needs keys and values (4 of the 8 H^2) of every position.
    """
    H, F, L, V = model.hidden_size, model.intermediate_size, model.num_hidden_layers, model.vocab_size
    at_query = 4 * H * H + 4 * H * F + 4 * length * H
    positions = length * L if num_positions is None else length * (L - 1) + min(num_positions, length)
    return 3.0 * (length * L * 4 * H * H + positions * at_query + predictions * (2 * H * H + 2 * H * V))


def parameter_count(model: ModelConfig) -> int:
    """Numbers in the parameters of a model with its pretraining heads; the vocabulary counts as padded."""
    H, F, L, V = (
        model.hidden_size,
        model.intermediate_size,
        model.num_hidden_layers,
        padded_vocabulary(model.vocab_size),
    )
    learned = model.max_position_embeddings if model.position_embedding_type == "absolute" else 0
    embeddings = (V + learned + model.type_vocab_size + 2) * H
    layer = 4 * (H * H + H) + 2 * H * F + F + H + 4 * H
    heads = (H * H + H) + (H * H + H + 2 * H + V) + (2 * H + 2)  # pooler, masked-LM, next sentence
    return embeddings + L * layer + heads
