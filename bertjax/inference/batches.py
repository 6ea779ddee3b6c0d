"""Texts through a compiled model: batches of similar lengths in few shapes, on one device or a mesh."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from bertjax.inference.encoding import Encoded, padded
from bertjax.inference.row_lengths import by_length, fixed_lengths, row_length
from bertjax.model.bert import Bert, merge_params, split_params
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

    def results(
        self, run: Callable[[Any], Any], batches: Iterable[tuple[Any, dict[str, np.ndarray]]]
    ) -> Iterator[tuple[Any, Any]]:
        """(key, results in NumPy) of every (key, batch on the host), a batch late: the devices always have work."""
        started = ((key, run(self.put(batch))) for key, batch in batches)
        for (key, results), _ in itertools.pairwise(itertools.chain(started, [(None, None)])):
            yield key, self.get(results)


ONE_DEVICE = Placement()


def run_by_length(
    function: Callable[..., Any],
    model: Bert | TaskModel,
    tokenizer: Tokenizer,
    examples: Sequence[Encoded],
    batch_size: int,
    *settings: Any,
    positions: Sequence[Sequence[int]] | None = None,
    placement: Placement = ONE_DEVICE,
) -> list[Any]:
    """``function(model, arguments of the model [rows, ...], *settings)``, compiled, on batches of similar lengths.

    Returns one result for each example, in their order: the row of each array that ``function`` returns. positions: of
    each example, passed to the model as ``masked_lm_positions``. Raises ValueError for an example that the model cannot
    take, and a batch_size that is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size} must be positive")
    config, (graphdef, params) = model.config, split_params(model)
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
        rows = -(-rows // placement.shards) * placement.shards
        length = row_length(fixed_lengths(longest), lengths[chosen].max())
        batch = padded([examples[index] for index in chosen], rows, length, tokenizer.pad_id)
        if positions is not None:
            most = 1 << (max(len(positions[index]) for index in chosen) - 1).bit_length()
            batch["masked_lm_positions"] = np.zeros((rows, most), np.int32)
            for row, index in enumerate(chosen):
                batch["masked_lm_positions"][row, : len(positions[index])] = positions[index]
        outputs = placement.get(_compiled(function, graphdef, params, placement.put(batch), settings))
        for row, index in enumerate(chosen):
            results[index] = jax.tree.map(lambda output, row=row: output[row], outputs)
    return results


@partial(jax.jit, static_argnums=(0, 1, 4))
def _compiled(function: Callable[..., Any], graphdef: Any, params: Any, batch: Any, settings: tuple[Any, ...]) -> Any:
    return function(merge_params(graphdef, params), batch, *settings)


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
    if not isinstance(model, TaskModel):
        raise TypeError(f"model must come from bertjax.load_task_model(path), not be a {type(model).__name__}")
    if model.task.kind not in kinds:
        raise ValueError(f"model is for {model.task.kind}, not {' or '.join(kinds)}; use {_USES[model.task.kind]}")
    check_pair(model, tokenizer)


def check_pair(model: Any, tokenizer: Any, may_pad: bool = False) -> None:
    """Raises TypeError for anything but a tokenizer, ValueError unless it has as many entries as the model; with
    ``may_pad`` it may have fewer."""
    check_is_tokenizer(tokenizer)
    entries, rows = tokenizer.vocab_size, model.config.vocab_size
    if entries > rows or (entries < rows and not may_pad):
        raise ValueError(f"tokenizer has {entries} entries, model {rows}")


def task_logits(
    model: TaskModel, tokenizer: Tokenizer, examples: Sequence[Encoded], batch_size: int
) -> list[np.ndarray]:
    """The logits of each example, float32: [C] for heads on the pooled output, else [at least its length, C]."""
    return run_by_length(_logits, model, tokenizer, examples, batch_size)


def _logits(model: TaskModel, batch: dict[str, jax.Array]) -> jax.Array | None:
    return model(**batch).logits
