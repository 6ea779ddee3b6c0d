"""The logits of a model for a task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from bertjax.inference.batches import run_by_length
from bertjax.inference.encoding import Encoded
from bertjax.model.bert import merge_params, split_params
from bertjax.model.task import TaskModel
from bertjax.text.tokenizer import Tokenizer, check_is_tokenizer

# Kind of task -> the function for its models.
_USES = {
    "classification": "classify",
    "multi_label": "classify",
    "regression": "classify or similarity",
    "tagging": "tag",
    "answering": "answer",
    "embedding": "embed or similarity",
}


def check_task(model: Any, tokenizer: Any, *kinds: str) -> None:
    """Raises TypeError or ValueError, naming the argument, unless it is a model of these kinds and its tokenizer."""
    check_is_tokenizer(tokenizer)
    if not isinstance(model, TaskModel):
        raise TypeError(f"model must come from bertjax.load_task_model(path), not be a {type(model).__name__}")
    if model.task.kind not in kinds:
        raise ValueError(f"model is for {model.task.kind}, not {' or '.join(kinds)}; use {_USES[model.task.kind]}")
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(f"tokenizer has {tokenizer.vocab_size} entries, model {model.config.vocab_size}")


def task_logits(
    model: TaskModel, tokenizer: Tokenizer, examples: Sequence[Encoded], batch_size: int
) -> list[np.ndarray]:
    """The logits of each example, float32: [C] for heads on the pooled output, else [at least its length, C]."""
    graphdef, params = split_params(model)

    def run(batch: dict[str, np.ndarray], chosen: Sequence[int]) -> list[np.ndarray]:
        return list(np.asarray(_logits(graphdef, params, batch)))

    return run_by_length(examples, batch_size, model.config, tokenizer.pad_id, run)


@partial(jax.jit, static_argnums=0)
def _logits(graphdef: Any, params: Any, batch: Any) -> jax.Array:
    output: Any = merge_params(graphdef, params)(**batch)
    return output.logits
