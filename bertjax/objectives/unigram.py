"""The unigram baseline: how well a model does that knows only how common each token is."""

from typing import Any

import numpy as np


def unigram_log_probs(token_counts: np.ndarray) -> np.ndarray:
    """Log probabilities float64 [V] of tokens by their training counts [V], one added to each."""
    counts = token_counts.astype(np.float64) + 1.0
    return np.log(counts / counts.sum())


def unigram_sums(log_probs: np.ndarray, batch: dict[str, Any]) -> float:
    """Sum over a batch's masked positions of -log p(original token)."""
    return float(-(log_probs[batch["masked_lm_ids"]] * batch["masked_lm_weights"]).sum())
