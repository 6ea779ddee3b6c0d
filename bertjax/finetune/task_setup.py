"""What a kind of task brings to the machine that trains them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bertjax.batch import Objective
from bertjax.errors import ConfigError, DataError
from bertjax.finetune.batching import Rows, joined
from bertjax.finetune.settings import FinetuneConfig
from bertjax.inference.encoding import Text, encode_texts
from bertjax.model.task import POOLED, TaskConfig
from bertjax.tasks.scores import SCORES, never_predicted, per_class, undefined_scores
from bertjax.text.tokenizer import Tokenizer

# Examples of errors that a summary holds.
MOST_ERRORS = 50
LOSS = "loss"
_LOWER_IS_BETTER = (LOSS, "mse")


class Outcome(NamedTuple):
    """scores: by name, the main one first. details: for the summary - labels, confusion, per_class, errors.
    settings: fields of the TaskConfig that follow from the predictions, such as a threshold. undefined: scores whose
    value means nothing, with the reason. remarks: what else a person must know of the scores."""

    scores: dict[str, float]
    details: Callable[[], dict[str, Any]]
    settings: Mapping[str, Any] = MappingProxyType({})
    undefined: Mapping[str, str] = MappingProxyType({})
    remarks: Sequence[str] = ()


def compared(
    kind: str, predictions: Any, labels: Any, names: Sequence[str], errors: Callable[[], list[Any]], **settings: Any
) -> Outcome:
    """The outcome of predictions; arguments as those of ``tasks.scores.SCORES``."""
    return Outcome(
        SCORES[kind](predictions, labels, names, **settings),
        lambda: per_class(kind, predictions, labels, names) | {"errors": errors()},
        undefined=undefined_scores(kind, predictions, labels, names, **settings),
        remarks=never_predicted(kind, predictions, labels, names),
    )


class Decided(NamedTuple):
    """What the data decided of a key that was not set. as_before: the option with which runs go on that began before
    the key existed; they have no value of it."""

    value: Any
    as_before: str = ""


@dataclass(frozen=True)
class TaskSetup:
    """A task on its data.

    objective: the loss. fields: what it records besides the loss. train, eval: the rows; ``per_example`` of them make
    an example. outcome: from the model's outputs of every row of eval - [C] or [S, C], float32, of the row's own
    tokens; embeddings [H] - to scores. notes: lines about the data for a person; cautions: those that are warnings,
    shown at the start and kept in the log. loss_unit: what the guard counts a rise of the loss in. eval_objective:
    where the loss of eval is another. decided: parts of the run's identity, by name, where they differ from what
    was fixed before they could be chosen. never_defined: scores without a value on eval, whatever is predicted, with
    the reason. metric: the score that chooses, or "loss"; None: the first.
    """

    task: TaskConfig
    objective: Objective
    fields: tuple[str, ...]
    train: Rows
    eval: Rows
    outcome: Callable[[list[np.ndarray]], Outcome]
    notes: Sequence[str]
    per_example: int = 1
    loss_unit: float = 1.0
    cautions: Sequence[str] = ()
    eval_objective: Objective | None = None
    decided: Mapping[str, Decided] = field(default_factory=dict)
    never_defined: Mapping[str, str] = field(default_factory=dict)
    metric: str | None = None


class Labelled(NamedTuple):
    """The examples of a run, read but not tokenised; positions: the longest row that the model takes."""

    train: list[Any]
    eval: list[Any]
    tokenizer: Tokenizer
    positions: int | None = None

    def rows(
        self, run: FinetuneConfig, texts: Sequence[Text], places: Sequence[str], **labels: np.ndarray
    ) -> tuple[Rows, int]:
        """(a row for each text or pair, how many were truncated, the longer text of a pair first). places: where each
        stands. Raises DataError for what not even the model's positions hold, if the config refuses such texts."""
        encoded = encode_texts(self.tokenizer, texts, run.model.max_length)
        most = self.positions if run.data.too_long == "refuse" else None
        for one, place in zip(encoded, places, strict=True):
            if most is not None and one.full_length > most:
                raise DataError(
                    f"{place}: {one.full_length:,} tokens are more than the {most:,} positions of the model; "
                    "shorten the text, or have such texts truncated with --config.data.too_long=truncate"
                )
        rows = joined([(one.input_ids, one.token_type_ids) for one in encoded], **labels)
        return rows, sum(one.is_truncated for one in encoded)

    def truncation_notes(self, run: FinetuneConfig, train: int, of_train: int, eval: int, of_eval: int) -> list[str]:
        """One line on texts that were truncated, if any were."""
        length, most = run.model.max_length, self.positions
        more = f"; the model has {most} positions, --config.model.max_length={most} uses them all"
        line = (
            f"{train:,} of {of_train:,} training and {eval:,} of {of_eval:,} evaluation texts have more than "
            f"config.model.max_length = {length} tokens and are truncated to these"
        )
        return [line + more * (most is not None and most > length)] if train + eval else []


def with_metric(setup: TaskSetup, run: FinetuneConfig) -> TaskSetup:
    """The setup with the metric of the config, the first score where it names none. Raises ConfigError for a name that
    is not one of the task's scores, DataError for one that is undefined on its evaluation data in any case."""
    given = run.training.metric
    if given is None and not setup.never_defined:
        return setup
    # Which scores there are depends on the data: those of a model that says nothing of any row.
    width = 2 if setup.task.kind == "answering" else max(len(setup.task.labels), 1)
    shape = lambda length: (width,) if setup.task.kind in (*POOLED, "embedding") else (length, width)
    names = list(setup.outcome([np.zeros(shape(length), np.float32) for length in setup.eval.lengths]).scores)
    metric = names[0] if given is None else given
    if metric not in (*names, LOSS):
        raise ConfigError(
            f"config.training.metric = {given!r} is not a score of this task; it has {', '.join(names)}, and loss"
        )
    if metric in setup.never_defined:
        others = [name for name in (*names, LOSS) if name not in setup.never_defined]
        raise DataError(
            f"the evaluation data leaves {metric} undefined ({setup.never_defined[metric]}), which chooses the best "
            f"checkpoint; give other data, or use --config.training.metric={others[0]}"
        )
    decided = {} if metric == names[0] else {"training.metric": Decided(metric)}
    return replace(setup, metric=metric, decided={**setup.decided, **decided})


def of_run(metric: str | None, scores: Mapping[str, float], undefined: Mapping[str, str], loss: float) -> float | None:
    """The value of a metric (None: the first score) as one that is better the higher it is; None where it has none."""
    name = next(iter({**scores, **undefined})) if metric is None else metric
    value = loss if name == LOSS else scores[name] if name in scores and name not in undefined else math.nan
    if not math.isfinite(value):
        return None
    return -value if name in _LOWER_IS_BETTER else value


def of_summary(summary: Mapping[str, Any]) -> float | None:
    """``of_run`` from what ``summary.json`` says."""
    return of_run(summary["main_score"], summary["scores"], summary.get("undefined", {}), summary.get(LOSS, math.nan))
