"""What a kind of task brings to training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bertjax.finetune.batching import Rows
from bertjax.model.task import TaskConfig
from bertjax.objectives.losses import Objective
from bertjax.text.tokenizer import Tokenizer

# Examples of errors that a summary holds.
MOST_ERRORS = 50


class Outcome(NamedTuple):
    """scores: by name, the main one first. details: for the summary - labels, confusion, per_class, errors.
    settings: fields of the TaskConfig that follow from the predictions, such as a threshold. undefined: scores whose
    value means nothing, with the reason. remarks: what else a person must know of the scores."""

    scores: dict[str, float]
    details: Callable[[], dict[str, Any]]
    settings: Mapping[str, Any] = MappingProxyType({})
    undefined: Mapping[str, str] = MappingProxyType({})
    remarks: Sequence[str] = ()


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
    where the loss of eval is another. decided: parts of the run's identity, by name, where they are not what they were
    before they could be chosen. never_defined: scores without a value on eval, whatever is predicted, with the reason.
    metric: the score that chooses, or "loss"; None: the first.
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
