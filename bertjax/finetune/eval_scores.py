"""One pass over the evaluation examples: the loss, and the scores of what the model says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bertjax.engine.fit import Interrupted
from bertjax.finetune.family import Outcome
from bertjax.finetune.job import Job
from bertjax.model.task import POOLED
from bertjax.parallel.sharding import process_rows, to_global
from bertjax.tasks.score_format import format_scores


def evaluate(
    job: Job, predict_step: Callable[..., Any], params: Any, stop: Callable[[], bool]
) -> tuple[float, Outcome]:
    """(loss over all examples, outcome). Every process gets the same.

    stop: asked before every batch, in all processes, which must all answer alike. Raises Interrupted where it says so.
    """
    batches, rows = job.eval_batches, job.family.eval
    own = process_rows(batches.rows, job.mesh)
    by_token = job.family.task.kind not in (*POOLED, "embedding")
    outputs: list[Any] = [None] * len(rows)
    totals: list[dict[str, Any]] = [{}, {}]
    pending = None

    def finish(numbers: np.ndarray, results: Any) -> None:
        values, *parts = jax.device_get(results)
        for total, part in zip(totals, parts, strict=True):
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + float(value)
        for row, number in enumerate(numbers):
            if number >= 0:
                outputs[number] = values[row, : rows.lengths[number]].copy() if by_token else values[row]

    for numbers, length in batches.evaluation():
        if stop():
            raise Interrupted
        results = predict_step(params, to_global(batches.make(numbers[own], length), job.mesh))
        if pending is not None:  # a batch late, so that the device always has work
            finish(*pending)
        pending = (numbers, results)
    if pending is not None:
        finish(*pending)
    return float(job.eval_objective.total(*totals)), job.family.outcome(outputs)


def evaluation_line(
    step: int, name: str, loss: float, outcome: Outcome, is_best: bool, positive: str | None = None
) -> str:
    """An evaluation in words. positive: the label that F1, precision and recall are of."""
    shown = "; ".join(
        [f"{format_scores(outcome.scores, outcome.undefined, positive)}, loss {loss:.4f}", *outcome.remarks]
    )
    return f"evaluation at step {step} ({name}): {shown}" + "  - the best so far" * is_best
