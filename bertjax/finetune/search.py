"""Several learning rates, epochs and seeds: a trial each, the best one becomes the model, mean and spread are kept."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from bertjax import unfinished
from bertjax.config_schema import translated_record
from bertjax.finetune.metric import LOSS, of_summary
from bertjax.finetune.recorded import identity_when_begun
from bertjax.finetune.settings import Trial
from bertjax.interop.exported import check_replaceable
from bertjax.interop.huggingface import put_in_place
from bertjax.tasks.score_format import score_title
from bertjax.workdir import files as folder
from bertjax.workdir.belongings import RUNS


def finished_summary(workdir: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The summary of a trial that came to its end with the same identity and left its model; else None."""
    try:
        recorded = translated_record(json.loads((workdir / "config.json").read_text()))
        same = recorded["identity"] == json.loads(json.dumps(identity_when_begun(recorded, identity)))
        summary = json.loads((workdir / "summary.json").read_text())
        has_scores = of_summary(summary) is not None or summary["main_score"] in summary.get("undefined", ())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    whole = same and (workdir / "model" / "config.json").is_file()
    return summary if whole and has_scores else None


def combined(trials: Sequence[Trial], summaries: Sequence[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    """(number of the best trial, its summary with ``runs``, ``mean`` and ``spread`` of all).

    The best has the best value of the metric, of equals the first; one without a value is behind all others. mean,
    spread (standard deviation of a sample, 0 of one): over the runs that have a value.
    """
    values = [of_summary(summary) for summary in summaries]
    best = max(range(len(summaries)), key=lambda n: (-math.inf if values[n] is None else values[n], -n))
    by_loss = summaries[0]["main_score"] == LOSS
    scores = [summary["scores"] | ({LOSS: summary[LOSS]} if by_loss else {}) for summary in summaries]
    names = dict.fromkeys(name for one in scores for name in one)
    columns = {name: [one[name] for one in scores if name in one] for name in names}
    runs = [
        {"learning_rate": t.learning_rate, "epochs": t.epochs, "seed": t.seed, "scores": one}
        for t, one in zip(trials, scores, strict=True)
    ]
    return best, summaries[best] | {
        "runs": runs,
        "mean": {name: statistics.fmean(values) for name, values in columns.items()},
        "spread": {name: statistics.stdev(values) if len(values) > 1 else 0.0 for name, values in columns.items()},
    }


def keep_best(workdir: Path, best: Trial, summary: dict[str, Any]) -> None:
    """Puts the model of the best trial and the summary of all into the workdir."""
    model = check_replaceable(workdir / "model", copies=list((workdir / RUNS).glob("*/model")))
    aside = unfinished.new_name(model)
    try:
        shutil.copytree(workdir / RUNS / best.name / "model", aside / "new")
        written = [child.name for child in (aside / "new").iterdir()]
        put_in_place(aside / "new", model, aside / unfinished.REPLACED, written)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    folder.write_json(workdir / "summary.json", summary)


def table_of(summary: dict[str, Any]) -> Table:
    """All trials with their scores, and mean and spread."""
    names, positive = list(summary["mean"]), summary.get("positive_label")
    table = Table("learning rate", "epochs", "seed", *[score_title(name.replace("_", " "), positive) for name in names])
    for run in summary["runs"]:
        cells = [f"{run['learning_rate']:g}", str(run["epochs"]), str(run["seed"])]
        shown = [f"{run['scores'][name]:.4f}" if name in run["scores"] else "undefined" for name in names]
        table.add_row(*cells, *shown)
    table.add_section()
    for what in ("mean", "spread"):
        table.add_row(what, "", "", *[f"{summary[what][name]:.4f}" for name in names])
    return table


def run_all(
    trials: Sequence[Trial],
    workdir: Path,
    identity_of: Callable[[Trial], dict[str, Any]],
    train: Callable[[Trial, Path], dict[str, Any]],
    say: Callable[[str], None],
    first: bool,
) -> dict[str, Any]:
    """Every trial in ``workdir/runs/<its name>``, those that have come to their end not again; the summary of all."""
    summaries = []
    for number, trial in enumerate(trials):
        own = workdir / RUNS / trial.name
        say(f"trial {number + 1} of {len(trials)}: {trial.name}")
        summary = finished_summary(own, identity_of(trial))
        if summary is None:
            summary = train(trial, own)
        else:
            say("  it has come to its end before")
        summaries.append(summary)
    best, summary = combined(trials, summaries)
    if first:
        keep_best(workdir, trials[best], summary)
    return summary
