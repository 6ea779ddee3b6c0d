"""The score that chooses the best checkpoint, the best trial, and when training ends: ``config.training.metric``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bertjax.errors import ConfigError, DataError
from bertjax.finetune.settings import FinetuneConfig
from bertjax.finetune.task_setup import Decided, TaskSetup
from bertjax.model.task import POOLED

LOSS = "loss"
_LOWER_IS_BETTER = (LOSS, "mse")


def with_metric(family: TaskSetup, run: FinetuneConfig) -> TaskSetup:
    """The family with the metric of the config, the first score where it names none.

    Raises ConfigError for a name that is no score of the task, DataError for one that is undefined on its evaluation
    data whatever is predicted.
    """
    given = run.training.metric
    if given is None and not family.never_defined:
        return family
    names = _names_of_scores(family)
    metric = names[0] if given is None else given
    if metric not in (*names, LOSS):
        raise ConfigError(
            f"config.training.metric = {given!r} is not a score here; there are {', '.join(names)}, and loss"
        )
    if metric in family.never_defined:
        others = [name for name in (*names, LOSS) if name not in family.never_defined]
        raise DataError(
            f"the evaluation data leaves {metric} undefined ({family.never_defined[metric]}), which chooses the best "
            f"checkpoint; give other data, or use --config.training.metric={others[0]}"
        )
    decided = {} if metric == names[0] else {"training.metric": Decided(metric)}
    return replace(family, metric=metric, decided={**family.decided, **decided})


def _names_of_scores(family: TaskSetup) -> list[str]:
    """By scoring a model that says nothing of any row: which scores there are depends on the data."""
    width = 2 if family.task.kind == "answering" else max(len(family.task.labels), 1)
    shape = lambda length: (width,) if family.task.kind in (*POOLED, "embedding") else (length, width)
    outputs = [np.zeros(shape(length), np.float32) for length in family.eval.lengths]
    return list(family.outcome(outputs).scores)


def of_run(metric: str | None, scores: Mapping[str, float], undefined: Mapping[str, str], loss: float) -> float | None:
    """The value of a metric (None: the first score) as one that is better the higher it is; None if it has none."""
    name = next(iter({**scores, **undefined})) if metric is None else metric
    value = loss if name == LOSS else scores[name] if name in scores and name not in undefined else math.nan
    if not math.isfinite(value):
        return None
    return -value if name in _LOWER_IS_BETTER else value


def of_summary(summary: Mapping[str, Any]) -> float | None:
    """``of_run`` from what ``summary.json`` says."""
    return of_run(summary["main_score"], summary["scores"], summary.get("undefined", {}), summary.get(LOSS, math.nan))
