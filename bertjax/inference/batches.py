"""Texts through a compiled model: batches of similar lengths in few shapes, on one device or a mesh."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from bertjax.config import ModelConfig
from bertjax.inference.encoding import Encoded, padded
from bertjax.inference.row_lengths import by_length, fixed_lengths, row_length
from bertjax.model.bert import merge_params, split_params
from bertjax.model.task import TaskModel
from bertjax.text.tokenizer import Tokenizer, check_is_tokenizer


@dataclass(frozen=True)
class Placement:
    """shards: parts that the rows of a batch are divided into. put: a whole batch on the host -> on the devices; all
    processes of a run call it with the same batches in the same order. get: results for all rows of a batch ->
    NumPy."""

    shards: int = 1
    put: Callable[[dict[str, np.ndarray]], Any] = lambda batch: batch
    get: Callable[[Any], Any] = jax.device_get

    def rows(self, per_shard: int) -> int:
        """Rows of a batch with that many for each shard, at least one."""
        return max(1, per_shard) * self.shards


ONE_DEVICE = Placement()


# ``(arrays [rows, length], indices of the examples in the first rows) -> one result a row``
RunBatch = Callable[[dict[str, np.ndarray], Sequence[int]], Sequence[Any]]


def run_by_length(
    examples: Sequence[Encoded], batch_size: int, config: ModelConfig, pad_id: int, run: RunBatch, shards: int = 1
) -> list[Any]:
    """``run`` on all examples, in batches of similar lengths; results in the order of the examples.

    shards: divides the rows of every batch. Raises ValueError for an example that the model cannot take, and a
    batch_size that is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size} must be positive")
    longest = config.max_position_embeddings
    lengths = np.array([len(example.input_ids) for example in examples], np.int64)
    if len(lengths) and lengths.max() > longest:
        index = int(lengths.argmax())
        raise ValueError(f"texts[{index}] has {lengths[index]} tokens; the model takes {longest}")
    for index, example in enumerate(examples):
        if max(example.token_type_ids) >= config.type_vocab_size:
            raise ValueError(f"texts[{index}] is a pair; the model has {config.type_vocab_size} token type")
    results: list[Any] = [None] * len(examples)
    for numbers in by_length(lengths, batch_size):
        chosen = numbers.tolist()
        rows = batch_size if len(examples) > batch_size else min(batch_size, 1 << (len(chosen) - 1).bit_length())
        rows = -(-rows // shards) * shards
        length = row_length(fixed_lengths(longest), lengths[chosen].max())
        batch = padded([examples[index] for index in chosen], rows, length, pad_id)
        for index, result in zip(chosen, run(batch, chosen), strict=False):
            results[index] = result
    return results


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
