"""Labels or numbers for texts and pairs of texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from bertjax.inference.batches import check_task, task_logits
from bertjax.inference.encoding import Text, encode_truncated, is_single
from bertjax.model.task import POOLED, TaskConfig, TaskModel
from bertjax.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Classification:
    """The most probable label. probabilities: of all labels, in the order of their ids."""

    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Labels:
    """The labels whose probability is over the threshold, the most probable first. probabilities: of all labels."""

    labels: list[str]
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Score:
    """A number, on the scale of the labels that the model learned from."""

    score: float


def classify(
    model: TaskModel,
    tokenizer: Tokenizer,
    texts: Text | Sequence[Text],
    *,
    threshold: float = 0.5,
    batch_size: int = 32,
) -> Any:
    """A ``Classification``, ``Labels`` or ``Score``, by the kind of the model, for one text or pair (a tuple of two
    strings); a list of them for a list.

    threshold: for the probability of each label, if a text may have several. Texts of more than
    ``model.task.max_length`` tokens are truncated, the longer one of a pair first, with a warning. Raises ValueError
    and TypeError that name the argument.
    """
    several: Any = [texts] if is_single(texts) else list(texts)
    check_task(model, tokenizer, *POOLED)
    examples = encode_truncated(tokenizer, several, model.task.max_length)
    found = [_result(model.task, row, threshold) for row in task_logits(model, tokenizer, examples, batch_size)]
    return found[0] if is_single(texts) else found


def _result(task: TaskConfig, logits: np.ndarray, threshold: float) -> Classification | Labels | Score:
    if task.kind == "regression":
        return Score(float(logits[0]))
    probabilities = (softmax if task.kind == "classification" else expit)(logits.astype(np.float64))
    named = {label: float(p) for label, p in zip(task.labels, probabilities, strict=True)}
    if task.kind == "classification":
        best = max(named, key=lambda label: named[label])
        return Classification(best, named[best], named)
    over = [label for label in named if named[label] > threshold]
    return Labels(sorted(over, key=lambda label: -named[label]), named)
