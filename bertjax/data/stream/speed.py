"""Measures the data pipeline: tokens per second, time per stage, and statistics of the batches."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bertjax.data.corpus.prepared import Corpus
    from bertjax.data.stream.settings import ExampleSettings
    from bertjax.text.tokenizer import Tokenizer

_SEEKS = 9


def measure(
    corpus: Corpus,
    tokenizer: Tokenizer,
    settings: ExampleSettings,
    seed: int,
    seconds: float,
    batch_size: int = 256,
) -> dict[str, Any]:
    """Speed of the host's part of the work, in one thread, and what the batches are like.

    Reads batches of ``batch_size`` rows for about ``seconds``, planning of blocks included; then times the stages one
    by one on the first block, and the way from a cursor to its first batch. Padding does not count as tokens.

    Returns ``sequence_length, batch_size, batches, real_tokens, tokens_per_second, padding_fraction,
    predictions_filled`` (share of the P slots in use), ``random_next_share``, ``examples_per_row``, ``seek_seconds``
    (median), ``shown_share`` (of the tokens in an epoch, see ``PairFacts.coverage``; masked LM alone truncates nothing)
    and ``stages``: nanoseconds a token by name.
    """
    from bertjax.data.stream.pair_cautions import phase_pairs
    from bertjax.data.stream.pipeline import open_batches

    paired = phase_pairs(corpus, {"": settings}, seed)
    busy = 0.0
    totals = dict.fromkeys(("places", "tokens", "slots", "masked", "examples", "random", "pairs"), 0)
    batches = 0
    with open_batches(corpus, tokenizer, [settings], seed, 0, batch_size, prefetch=0) as reader:
        next(reader)  # imports and the first touch of the files are not what is measured
        while busy < seconds or not batches:
            began = time.perf_counter()
            batch, _ = next(reader)
            busy += time.perf_counter() - began
            batches += 1
            totals["places"] += batch["example_ids"].size
            totals["tokens"] += int(np.count_nonzero(batch["example_ids"]))
            totals["slots"] += batch["masked_lm_weights"].size
            totals["masked"] += int(np.count_nonzero(batch["masked_lm_weights"]))
            totals["examples"] += int(batch["example_ids"].max(axis=1).sum())
            totals["random"] += int(batch["next_sentence_labels"].sum())
            totals["pairs"] += int(batch["next_sentence_weights"].sum())
    return {
        "sequence_length": settings.sequence_length,
        "batch_size": batch_size,
        "batches": batches,
        "real_tokens": totals["tokens"],
        "tokens_per_second": totals["tokens"] / busy,
        "padding_fraction": 1 - totals["tokens"] / totals["places"],
        "predictions_filled": totals["masked"] / totals["slots"],
        "random_next_share": totals["random"] / max(1, totals["pairs"]),
        "examples_per_row": totals["examples"] / (batches * batch_size),
        "seek_seconds": _seek_seconds(corpus, tokenizer, settings, seed, batch_size),
        "shown_share": paired[""].coverage if paired else 1.0,
        "stages": _stages(corpus, tokenizer, settings, seed),
    }


def _seek_seconds(corpus: Corpus, tokenizer: Tokenizer, settings: ExampleSettings, seed: int, batch_size: int) -> float:
    """Median time from a cursor somewhere in a late epoch to its first batch."""
    from bertjax.data.stream.blocks import num_blocks
    from bertjax.data.stream.cursor import Cursor
    from bertjax.data.stream.pipeline import open_batches

    times = []
    for number in range(_SEEKS):
        cursor = Cursor(epoch=100 + number, block=number * 7919 % num_blocks(corpus, settings.block_tokens), row=number)
        began = time.perf_counter()
        with open_batches(corpus, tokenizer, [settings], seed, 0, batch_size, cursor, prefetch=0) as reader:
            next(reader)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _stages(corpus: Corpus, tokenizer: Tokenizer, settings: ExampleSettings, seed: int) -> dict[str, float]:
    """Nanoseconds a token of each stage over the first block; the median of three passes."""
    from bertjax import batch as batch_fields
    from bertjax.data.stream import assembly, block_plan, blocks, masking, pairs

    facts = masking.TokenFacts.of(tokenizer)
    plan = block_plan.plan_block(corpus, [settings], seed, 0, 0, 0)
    tokens = int(plan.lengths.sum())
    text, words = np.asarray(corpus.tokens), masking.kept_words(corpus, facts, settings)
    rows = max(1, assembly.GROUP_TOKENS // settings.sequence_length)
    passes: dict[str, list[float]] = {"read_lengths": [], "pairs": [], "plan": [], "gather": [], "mask": []}
    for _ in range(3):
        clock = [time.perf_counter()]
        table = blocks.read_block(corpus, settings.block_tokens, seed, 0, 0)
        clock.append(time.perf_counter())
        pairs.make_examples(*pairs.split_block(table, table.sentences, settings), settings, seed, 0)
        clock.append(time.perf_counter())
        block_plan.plan_block(corpus, [settings], seed, 0, 0, 0)
        clock.append(time.perf_counter())
        for name, begin, end in zip(("read_lengths", "pairs", "plan"), clock[:-1], clock[1:], strict=True):
            passes[name].append(end - begin)
        gathered = masked = 0.0
        for begin in range(0, len(plan), rows):
            numbers = np.arange(begin, min(begin + rows, len(plan)))
            batch = batch_fields.empty(
                len(numbers), settings.sequence_length, settings.max_predictions, settings.max_examples_per_row
            )
            flat = {name: field.reshape(-1) for name, field in batch.items()}
            began = time.perf_counter()
            layout = assembly.gather(flat, text, plan, numbers, settings, facts, words)
            middle = time.perf_counter()
            assembly.mask(flat, layout, plan, settings, facts)
            gathered, masked = gathered + middle - began, masked + time.perf_counter() - middle
        passes["gather"].append(gathered)
        passes["mask"].append(masked)
    times = {name: statistics.median(values) for name, values in passes.items()}
    # What a plan takes beyond the stages before it is the packing.
    times["pack"] = max(0.0, times.pop("plan") - times["read_lengths"] - times["pairs"])
    order = ("read_lengths", "pairs", "pack", "gather", "mask")
    return {name: times[name] / tokens * 1e9 for name in order}
