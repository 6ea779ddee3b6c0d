"""From the arrays a step returns to the numbers of a metrics row."""

from __future__ import annotations

import jax


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
