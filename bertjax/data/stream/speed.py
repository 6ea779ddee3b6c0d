"""Measures the data pipeline: tokens per second, time per stage, and statistics of the batches."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bertjax.data.corpus.arrays import Corpus
from bertjax.data.stream import assembly, block_plan, blocks, masking
from bertjax.data.stream.cursor import Cursor
from bertjax.data.stream.pipeline import open_batches
from bertjax.data.stream.settings import ExampleSettings
from bertjax.text.interface import Tokenizer

_SEEKS = 9
_PASSES = 3


def measure(
    corpus: Corpus, tokenizer: Tokenizer, settings: ExampleSettings, seed: int, seconds: float, batch_size: int = 256
) -> dict[str, Any]:
    """Speed of the host's part of the work, in one thread, and statistics of the batches.

    Reads batches of ``batch_size`` rows for about ``seconds``, planning of blocks included; then times each stage on
    the first block, and the way from a cursor to its first batch. Padding does not count as tokens.

    Returns ``sequence_length, batch_size, batches, real_tokens, tokens_per_second, padding_fraction,
    predictions_filled`` (share of the P slots in use), ``label_1_share`` (of the pairs: a random next sentence, a
    swapped order), ``examples_per_row``, ``seek_seconds`` (median) and ``stages``: nanoseconds per token by name.
    """
    maker = settings.maker
    busy, batches, totals = 0.0, 0, np.zeros(7, np.int64)
    with open_batches(corpus, tokenizer, [settings], seed, 0, batch_size, prefetch=0) as reader:
        next(reader)  # imports and the first touch of the files are not what is measured
        while busy < seconds or not batches:
            (batch, _), took = _timed(next, reader)
            busy, batches = busy + took, batches + 1
            ids, weights = batch["example_ids"], batch["masked_lm_weights"]
            pairs = (0, 0) if maker.labels is None else (batch[maker.labels].sum(), batch[maker.weights].sum())
            used = np.count_nonzero(ids), np.count_nonzero(weights)
            totals += np.array([ids.size, weights.size, *used, ids.max(axis=1).sum(), *pairs], np.int64)
    places, slots, tokens, masked, examples, label_1, pairs_seen = totals.tolist()
    return {
        "sequence_length": settings.sequence_length,
        "batch_size": batch_size,
        "batches": batches,
        "real_tokens": tokens,
        "tokens_per_second": tokens / busy,
        "padding_fraction": 1 - tokens / places,
        "predictions_filled": masked / slots,
        "label_1_share": label_1 / max(1, pairs_seen),
        "examples_per_row": examples / (batches * batch_size),
        "seek_seconds": _seek_seconds(corpus, tokenizer, settings, seed, batch_size),
        "stages": _stages(corpus, tokenizer, settings, seed),
    }


def _seek_seconds(corpus: Corpus, tokenizer: Tokenizer, settings: ExampleSettings, seed: int, batch_size: int) -> float:
    """Median time from a cursor somewhere in a late epoch to its first batch."""

    def seek(cursor: Cursor) -> None:
        with open_batches(corpus, tokenizer, [settings], seed, 0, batch_size, cursor, prefetch=0) as reader:
            next(reader)

    total = blocks.num_blocks(corpus, settings.block_tokens)
    cursors = [Cursor(epoch=100 + number, block=number * 7919 % total, row=number) for number in range(_SEEKS)]
    return statistics.median(_timed(seek, cursor)[1] for cursor in cursors)


def _stages(corpus: Corpus, tokenizer: Tokenizer, settings: ExampleSettings, seed: int) -> dict[str, float]:
    """Nanoseconds per token of each stage over the first block; the median of some passes."""
    made, maker = assembly.RowMaker(corpus, masking.TokenFacts.of(tokenizer), settings), settings.maker
    plan = block_plan.plan_block(corpus, [settings], seed, 0, 0, 0)
    rows = max(1, assembly.GROUP_TOKENS // settings.sequence_length)
    make = lambda t: maker.make(*maker.split(t, t.sentences, settings), settings, seed, 0)
    passes = []
    for _ in range(_PASSES):
        table, read = _timed(blocks.read_block, corpus, settings.block_tokens, seed, 0, 0)
        _, paired = _timed(make, table)
        _, planned = _timed(block_plan.plan_block, corpus, [settings], seed, 0, 0, 0)
        gathered = masked = 0.0
        for begin in range(0, len(plan), rows):
            numbers = np.arange(begin, min(begin + rows, len(plan)))
            flat = {name: field.reshape(-1) for name, field in settings.empty(len(numbers)).items()}
            layout, took = _timed(made.gather, flat, plan, numbers)
            gathered += took
            masked += _timed(made.mask, flat, layout, plan)[1]
        # What a plan takes beyond the stages before it is the packing.
        passes.append((read, paired, max(0.0, planned - read - paired), gathered, masked))
    names, tokens = ("read_lengths", "pairs", "pack", "gather", "mask"), int(plan.lengths.sum())
    return {name: statistics.median(t) / tokens * 1e9 for name, t in zip(names, zip(*passes, strict=True), strict=True)}


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a call returns, and the seconds that it took."""
    began = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - began
