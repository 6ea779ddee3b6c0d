"""What is left of a run in one page: summary.json and its last printed lines."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
from pathlib import Path
from typing import Any

import jax

import bertjax
from bertjax.config import RunConfig
from bertjax.engine.held_out import chance_in_words

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers", "sentencepiece")


def versions() -> dict[str, str]:
    """Version of bertjax, Python and what the run's numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"bertjax": bertjax.__version__, "python": platform.python_version()} | found


def peak_memory() -> dict[str, int]:
    """Peak bytes: resident memory of this process, and device memory where the device tells."""
    peak = {"host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        peak["device_bytes"] = int(stats["peak_bytes_in_use"])
    return peak


def ran_on() -> dict[str, Any]:
    """What a run had under it, and how much memory it has taken."""
    devices = {
        "kind": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "count": jax.device_count(),
    }
    return {"peak_memory": peak_memory(), "devices": devices, "versions": versions()}


def summarise(
    run: RunConfig, held_out: dict[str, float], totals: dict[str, float], held_out_kind: str
) -> dict[str, Any]:
    """summary.json: held-out figures beside their baselines, and what the run took.

    totals: seconds and real_tokens of the whole run. held_out_kind: how the held-out text was chosen (the
    corpus manifest says); "copy" is text that was trained on.
    """
    places = sum(p.steps * p.batch_size * p.sequence_length for p in run.phases.values())
    return {
        "name": run.name,
        "held_out": {k: held_out[k] for k in ("mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy") if k in held_out},
        "held_out_kind": held_out_kind,
        "unigram_loss": held_out["unigram_loss"],
        **{name: held_out.get(name) for name in ("nsp_chance", "nsp_pairs", "nsp_next_share")},
        "steps": run.total_steps,
        "real_tokens": totals["real_tokens"],
        "seconds": totals["seconds"],
        "tokens_per_second": totals["real_tokens"] / totals["seconds"],
        "padding_fraction": 1.0 - totals["real_tokens"] / places,
        **ran_on(),
    }


def summary_lines(summary: dict[str, Any], workdir: Path) -> list[str]:
    """The summary for a person."""
    held_out, gain = summary["held_out"], summary["unigram_loss"] - summary["held_out"]["mlm_loss"]
    what = "training-text" if summary["held_out_kind"] == "copy" else "held-out"
    lines = [
        f"{what} masked-LM loss {held_out['mlm_loss']:.3f} nats, {gain:.3f} under the unigram baseline of "
        f"{summary['unigram_loss']:.3f} on the same masks; accuracy {held_out['mlm_accuracy']:.1%}"
    ]
    if "nsp_accuracy" in held_out:
        lines.append(f"{what} next-sentence accuracy {held_out['nsp_accuracy']:.1%}, chance {chance_in_words(summary)}")
    elif summary["nsp_pairs"]:
        lines.append(f"{what} next-sentence accuracy is not scored: {chance_in_words(summary)}")
    lines.append(
        f"{summary['steps']:,} steps, {summary['real_tokens']:,} real tokens in {summary['seconds']:,.0f} s "
        f"({summary['tokens_per_second']:,.0f} a second), padding {summary['padding_fraction']:.2%}, "
        f"peak memory {summary['peak_memory']['host_bytes'] / 1e9:.2f} GB"
    )
    lines.append(f"the model is in {workdir / 'model'}, the figures are in {workdir / 'summary.json'}")
    return lines
