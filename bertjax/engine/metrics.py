"""From the arrays a step returns to the numbers of a metrics row."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

# Deterministic values of a train row, in the order they are written.
TRAIN_FIELDS = (
    "loss",
    "mlm_loss",
    "mlm_accuracy",
    "nsp_loss",
    "nsp_accuracy",
    "learning_rate",
    "grad_norm",
    "loss_scale",
)


def fetch(metrics: dict[str, jax.Array]) -> dict[str, float]:
    """Waits for a step's metrics and brings them to the host."""
    return {name: float(value) for name, value in jax.device_get(metrics).items()}


def throughput(real_tokens: float, slots: int, flops: float, seconds: float, peak: float | None):
    """tokens_per_second, mfu (None where the peak is not known) and padding_fraction over some steps.

    real_tokens: tokens that are not padding. slots, flops: token places of the rows done, and FLOPs of these rows
    were they full. peak: FLOP/s of all devices. MFU counts real tokens only.
    """
    filled = real_tokens / slots
    mfu = None if peak is None or seconds <= 0 else flops * filled / seconds / peak
    return {
        "tokens_per_second": real_tokens / seconds if seconds > 0 else 0.0,
        "mfu": mfu,
        "padding_fraction": 1.0 - filled,
    }


def unigram_log_probs(token_counts: np.ndarray) -> np.ndarray:
    """Log probabilities float64 [V] of tokens by their training counts [V], one added to each."""
    counts = token_counts.astype(np.float64) + 1.0
    return np.log(counts / counts.sum())


def unigram_sums(log_probs: np.ndarray, batch: dict[str, Any]) -> float:
    """Sum over a batch's masked positions of -log p(original token)."""
    return float(-(log_probs[batch["masked_lm_ids"]] * batch["masked_lm_weights"]).sum())
