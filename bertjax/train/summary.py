"""What is left of a run in one page: summary.json and its last printed lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertjax.config import RunConfig
from bertjax.engine.machine import run_figures
from bertjax.objectives.objective import CrossEntropy


def summarise(
    run: RunConfig,
    losses: Sequence[CrossEntropy],
    held_out: dict[str, float],
    totals: dict[str, float],
    held_out_kind: str,
) -> dict[str, Any]:
    """summary.json: held-out figures beside their baselines, and what the run took.

    totals: seconds and real_tokens of the whole run. held_out_kind: how the held-out text was chosen (the
    corpus manifest says); "copy" is text that was trained on.
    """
    places = sum(p.steps * p.batch_size * p.sequence_length for p in run.phases.values())
    return {
        "name": run.name,
        "held_out": {name: held_out[name] for loss in losses for name in loss.fields if name in held_out},
        "held_out_kind": held_out_kind,
        **{name: held_out.get(name) for loss in losses for name in loss.baselines},
        **run_figures(run.total_steps, totals, places),
    }


def summary_lines(summary: dict[str, Any], losses: Sequence[CrossEntropy], workdir: Path) -> list[str]:
    """The summary for a person."""
    what = "training-text" if summary["held_out_kind"] == "copy" else "held-out"
    lines = list(filter(None, (loss.summary(summary | summary["held_out"], what) for loss in losses)))
    lines.append(
        f"{summary['steps']:,} steps, {summary['real_tokens']:,} real tokens in {summary['seconds']:,.0f} s "
        f"({summary['tokens_per_second']:,.0f} a second), padding {summary['padding_fraction']:.2%}, "
        f"peak memory {summary['peak_memory']['host_bytes'] / 1e9:.2f} GB"
    )
    lines.append(f"the model is in {workdir / 'model'}, the figures are in {workdir / 'summary.json'}")
    return lines
