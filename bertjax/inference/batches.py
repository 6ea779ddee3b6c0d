"""Texts of different lengths through a compiled model: batches of similar lengths, in few shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bertjax.config import ModelConfig
from bertjax.inference.encoding import Encoded, padded
from bertjax.inference.row_lengths import by_length, fixed_lengths, row_length

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
