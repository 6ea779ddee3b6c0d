"""What is left of a trial in one page: summary.json and its last printed lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from bertjax.finetune.family import Outcome
from bertjax.finetune.job import Job
from bertjax.finetune.position import Position
from bertjax.tasks.label_cautions import majority
from bertjax.train.summary import ran_on


def summarise(job: Job, here: Position, loss: float, outcome: Outcome) -> dict[str, Any]:
    """summary.json of a trial: ``outcome`` and ``loss`` are those of its best checkpoint."""
    trial, main = job.trial, next(iter(outcome.scores))
    slots_between = lambda first, last: job.train_batches.slots(trial.seed, first, last)
    left_out = sum(slots_between(part["from"], part["to"]) for part in here.skipped)
    slots = slots_between(0, here.step + here.offset) - left_out
    seconds, real_tokens = here.totals["seconds"], here.totals["real_tokens"]
    return {
        "name": job.run.name,
        "task": job.family.task.kind,
        "main_score": main,
        "scores": outcome.scores,
        "loss": loss,
        "best_step": here.best["step"] if here.best else None,
        **outcome.details(),
        "learning_rate": trial.learning_rate,
        "epochs": trial.epochs,
        "seed": trial.seed,
        "rows": {"train": len(job.family.train), "eval": len(job.family.eval)},
        "steps": here.step,
        "real_tokens": real_tokens,
        "seconds": seconds,
        "tokens_per_second": real_tokens / seconds if seconds else 0.0,
        "padding_fraction": 1.0 - real_tokens / slots,
        **ran_on(),
    }


def summary_lines(summary: dict[str, Any], workdir: Path) -> list[str]:
    """The summary for a person."""
    beside = {"accuracy": _by_majority(summary)}
    shown = ", ".join(
        f"{name.replace('_', ' ')} {value:.4f}{beside.get(name, '')}" for name, value in summary["scores"].items()
    )
    return [
        f"best at step {summary['best_step']}: {shown}",
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
