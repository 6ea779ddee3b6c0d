"""Floating-point operations and activation memory of the model, by formula."""

from __future__ import annotations

from bertjax.config import ModelConfig


def train_flops_per_row(model: ModelConfig, length: int, predictions: int, leading: int | None = None) -> float:
    """FLOPs of one row, forward and backward, nothing recomputed.

    3 * (S L (8 H^2 + 4 H F + 4 S H) + P (2 H^2 + 2 H V)): two per multiply-add, the backward pass counted as
    twice the forward. With F = 4 H the layer term is the usual 24 H^2 + 4 S H. leading: positions that the last layer
    is computed at (None: all S); of the 8 H^2, keys and values (4 H^2) are needed of all.
    """
    H, F, L, V = model.hidden_size, model.intermediate_size, model.num_hidden_layers, model.vocab_size
    at_query = 4 * H * H + 4 * H * F + 4 * length * H
    positions = length * L if leading is None else length * (L - 1) + min(leading, length)
    return 3.0 * (length * L * 4 * H * H + positions * at_query + predictions * (2 * H * H + 2 * H * V))


def activation_bytes_per_row(model: ModelConfig, length: int, predictions: int, element_bytes: int) -> int:
    """Rough upper bound of what one row keeps for the backward pass, for choosing how many rows run at once.

    A layer keeps about 12 H + 4 F values a token and 3 S x S score matrices a head; the masked-LM head 3
    float32 values a prediction and vocabulary entry. With recomputation only the layers' inputs stay.
    """
    H, F, L, N = model.hidden_size, model.intermediate_size, model.num_hidden_layers, model.num_attention_heads
    one_layer = element_bytes * length * (12 * H + 4 * F + 3 * N * length)
    kept = one_layer * L if model.recompute == "none" else one_layer + element_bytes * L * length * 4 * H
    return kept + 12 * predictions * model.vocab_size
