"""What is left of a run in one page: summary.json and its last printed lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertjax.config import RunConfig
from bertjax.engine.machine import run_figures
from bertjax.train.held_out_loss import chance_in_words


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
        **run_figures(run.total_steps, totals, places),
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
