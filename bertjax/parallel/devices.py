"""What is known about devices: peak rates and memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax

# Dense bfloat16 peak of one device, FLOP/s, by the start of jax's device_kind (vendors' data sheets).
PEAK_FLOPS: tuple[tuple[str, float], ...] = (
    ("NVIDIA H200", 990e12),
    ("NVIDIA H100", 990e12),
    ("NVIDIA A100", 312e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5p", 459e12),
    ("TPU v5", 459e12),
    ("TPU v6 lite", 918e12),
    ("TPU v6e", 918e12),
)

# Where Linux says how much memory a container has (cgroup version 2 and 1).
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def peak_flops(device: Any) -> float | None:
    """Peak FLOP/s of a device, or None where it is not in the table (CPUs among them)."""
    return next((rate for kind, rate in PEAK_FLOPS if device.device_kind.startswith(kind)), None)


def memory_limit(device: Any) -> int:
    """Bytes a device may use. A CPU device gets its share of the machine's (or container's) memory.

    The total, never what is free just now: the number decides how a batch is split, and a resumed run must
    split it as before.
    """
    if device.platform != "cpu":
        stats = device.memory_stats()
        if stats and "bytes_limit" in stats:
            return int(stats["bytes_limit"])
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CONTAINER_LIMITS:
        text = path.read_text().strip() if path.is_file() else ""
        limits += [int(text)] if text.isdigit() else []
    return min(limits) // max(1, len([d for d in jax.local_devices() if d.platform == "cpu"]))
