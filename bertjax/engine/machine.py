"""What a run ran on: versions, devices, peak memory."""

import importlib.metadata
import platform
import resource
from collections.abc import Mapping
from typing import Any

import jax

import bertjax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers", "sentencepiece")


def versions() -> dict[str, str]:
    """Version of bertjax, Python and what the run's numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"bertjax": bertjax.__version__, "python": platform.python_version()} | found


def run_figures(steps: int, totals: Mapping[str, float], places: int) -> dict[str, Any]:
    """What a summary says of the run itself. totals: its seconds and real_tokens; places: token slots of its rows."""
    seconds, real_tokens = totals["seconds"], totals["real_tokens"]
    # Peak bytes: resident memory of this process, and device memory where the device reports it.
    peak = {"host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        peak["device_bytes"] = int(stats["peak_bytes_in_use"])
    device = jax.devices()[0].device_kind
    return {
        "steps": steps,
        "real_tokens": real_tokens,
        "seconds": seconds,
        "tokens_per_second": real_tokens / seconds if seconds else 0.0,
        "padding_fraction": 1.0 - real_tokens / places,
        "peak_memory": peak,
        "devices": {"kind": device, "platform": jax.default_backend(), "count": jax.device_count()},
        "versions": versions(),
    }
