"""The shapes and the batch that speed comparisons of pretraining share; NumPy alone, so that both sides can read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A model and a batch: L layers x H, N heads, F inside the MLP; B rows of S tokens, P of them predicted."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    rows: int
    length: int
    predictions: int
    vocabulary: int = 30522


SHAPES = {
    "tiny": Shape(2, 64, 2, 256, 4, 32, 5, vocabulary=1024),  # to see that the scripts run
    "small": Shape(4, 256, 4, 1024, 32, 128, 20),
    "base128": Shape(12, 768, 12, 3072, 8, 128, 20),
    "base512": Shape(12, 768, 12, 3072, 2, 512, 77),
    "large128": Shape(24, 1024, 16, 4096, 32, 128, 20),
    "large512": Shape(24, 1024, 16, 4096, 8, 512, 77),
}


def synthetic_batch(shape: Shape, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch (``bertjax.batch``) of random tokens without padding: a row holds one example, two halves of a pair."""
    random = np.random.default_rng(seed)
    B, S, P = shape.rows, shape.length, shape.predictions
    positions = [np.sort(random.choice(np.arange(1, S - 1), P, replace=False)) for _ in range(B)]
    return {
        "input_ids": random.integers(5, shape.vocabulary, (B, S), np.int32),
        "token_type_ids": np.broadcast_to(np.arange(S) >= S // 2, (B, S)).astype(np.int32),
        "position_ids": np.broadcast_to(np.arange(S, dtype=np.int32), (B, S)).copy(),
        "example_ids": np.ones((B, S), np.int32),
        "masked_lm_positions": np.asarray(positions, np.int32),
        "masked_lm_ids": random.integers(5, shape.vocabulary, (B, P), np.int32),
        "masked_lm_weights": np.ones((B, P), np.float32),
        "cls_positions": np.zeros((B, 1), np.int32),
        "next_sentence_labels": random.integers(0, 2, (B, 1), np.int32),
        "next_sentence_weights": np.ones((B, 1), np.float32),
    }
