"""What is left of a trial in one page: summary.json and its last printed lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from bertjax.engine.machine import run_figures
from bertjax.engine.position import RunPosition
from bertjax.finetune.task_setup import Outcome
from bertjax.finetune.trial_job import TrialJob
from bertjax.tasks.label_warnings import majority
from bertjax.tasks.score_format import defined_scores, format_scores, score_title


def summarise(job: TrialJob, here: RunPosition, loss: float, outcome: Outcome) -> dict[str, Any]:
    """summary.json of a trial: ``outcome`` and ``loss`` are those of its best checkpoint."""
    trial, setup = job.trial, job.setup
    slots_between = lambda first, last: job.train_batches.slots(trial.seed, first, last)
    left_out = sum(slots_between(part["from"], part["to"]) for part in here.skipped)
    slots = slots_between(0, here.data.number) - left_out
    return {
        "name": job.run.name,
        "task": job.setup.task.kind,
        "main_score": setup.metric or next(iter(outcome.scores)),
        "scores": defined_scores(outcome.scores, outcome.undefined),
        "undefined": dict(outcome.undefined),
        "remarks": list(outcome.remarks),
        "positive_label": setup.task.positive_label,
        "loss": loss,
        "best_step": here.best.step,
        **outcome.details(),
        "learning_rate": trial.learning_rate,
        "epochs": trial.epochs,
        "seed": trial.seed,
        "rows": {"train": len(job.setup.train), "eval": len(job.setup.eval)},
        **run_figures(here.step, here.totals, slots),
    }


def summary_lines(summary: dict[str, Any], workdir: Path) -> list[str]:
    """The summary for a person."""
    beside, undefined = {"accuracy": _by_majority(summary)}, summary.get("undefined", {})
    shown = format_scores(summary["scores"], undefined, summary.get("positive_label"), beside)
    shown = "; ".join([shown, *summary["remarks"]])
    main, positive = summary["main_score"], summary.get("positive_label")
    chosen = score_title(main.replace("_", " "), positive)
    by = f" by {chosen}" * (main != next(iter(summary["scores"]), main))
    return [
        f"best{by} at step {summary['best_step']}: {shown}"
        if summary["best_step"] is not None
        else f"warning: {chosen} has a value in no evaluation, so that none is the best: the model is that of the last "
        f"step, {summary['steps']:,}: {shown}",
        f"{summary['steps']:,} steps, {summary['real_tokens']:,} real tokens in {summary['seconds']:,.0f} s "
        f"({summary['tokens_per_second']:,.0f} a second), padding {summary['padding_fraction']:.1%}",
        f"the model is in {workdir / 'model'}, the figures are in {workdir / 'summary.json'}",
    ]


def _by_majority(summary: dict[str, Any]) -> str:
    """The accuracy of saying the commonest label of the evaluation examples always, in brackets; of classes alone."""
    if summary["task"] != "classification":
        return ""
    counts = Counter({name: figures["support"] for name, figures in summary["per_class"].items()})
    name, share = majority(counts)
    return f" ({share:.4f} is always {name!r})"
