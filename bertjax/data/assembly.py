"""Plans -> arrays: gathers the tokens of many rows at once and lays out every field of the batch."""

from __future__ import annotations

import numpy as np

from bertjax.data import masking
from bertjax.data.masking import Layout, TokenFacts
from bertjax.data.planning import BlockPlan
from bertjax.data.settings import ExampleSettings

# Rows are worked on in groups of about this many tokens, so that the arrays of a group stay in the cache.
_GROUP_TOKENS = 1 << 15


def assemble(
    batch: dict[str, np.ndarray],
    at: int,
    tokens: np.ndarray,
    plan: BlockPlan,
    begin: int,
    end: int,
    settings: ExampleSettings,
    facts: TokenFacts,
) -> None:
    """Writes rows begin : end of the plan into the rows of ``batch`` from row ``at`` on.

    ``batch`` is as ``bertjax.batch.empty`` makes it (contiguous), with B at least ``at + end - begin``; ``tokens`` is
    ``corpus.tokens``.
    """
    tokens = np.asarray(tokens)  # a plain view: np.memmap is slow to index
    step = max(1, _GROUP_TOKENS // settings.sequence_length)
    for first in range(begin, end, step):
        last = min(first + step, end)
        views = {name: field[at + first - begin : at + last - begin] for name, field in batch.items()}
        _assemble_group(views, tokens, plan, first, last, settings, facts)


def _assemble_group(
    out: dict[str, np.ndarray],
    tokens: np.ndarray,
    plan: BlockPlan,
    begin: int,
    end: int,
    settings: ExampleSettings,
    facts: TokenFacts,
) -> None:
    rows, length = end - begin, settings.sequence_length
    flat = {name: field.reshape(-1) for name, field in out.items()}  # whole rows of the batch: views, not copies
    bounds = plan.rows.bounds[begin : end + 1]
    chosen = plan.rows.examples[bounds[0] : bounds[-1]]
    bounds = bounds - bounds[0]
    per_row = np.diff(bounds)
    row_of = np.repeat(np.arange(rows), per_row)
    slot = np.arange(len(chosen)) - bounds[row_of]
    size, a_length = plan.lengths[chosen], plan.examples.a_length[chosen]
    before = np.cumsum(size) - size
    start = before - before[bounds[:-1]][row_of] + row_of * length
    used = np.add.reduceat(size, bounds[:-1])

    # --- Runs: in each row [CLS] A [SEP], B [SEP], .., padding; special tokens are written over afterwards ----------
    runs = 2 * len(chosen) + rows
    a_run = 2 * np.arange(len(chosen)) + row_of
    pad_run = 2 * bounds[1:] + np.arange(rows)
    run_length = np.empty(runs, np.int64)
    run_length[a_run] = a_length + 2
    run_length[a_run + 1] = size - a_length - 2
    run_length[pad_run] = length - used
    # What to add to a place to get the position of its token in the corpus.
    source = np.zeros(runs, np.int64)
    source[a_run] = plan.examples.a_start[chosen] - 1 - start
    source[a_run + 1] = plan.examples.b_start[chosen] - (start + a_length + 2)
    example_start = np.zeros(runs, np.int32)
    example_start[a_run] = example_start[a_run + 1] = start
    number = np.zeros(runs, np.int32)
    number[a_run] = number[a_run + 1] = slot + 1
    token_type = np.zeros(runs, np.int32)
    token_type[a_run + 1] = 1

    # --- Places -------------------------------------------------------------------------------------------------------
    places = np.arange(rows * length, dtype=np.int32)
    padding = masking.ranges(np.arange(rows) * length + used, length - used)
    index = np.repeat(source, run_length)
    index += places
    ids = tokens.take(index, mode="clip").astype(np.int32)
    separators = [start + a_length + 1] if settings.objective == "mlm" else [start + a_length + 1, start + size - 1]
    specials = np.concatenate((start, *separators))
    ids[specials], ids[start], ids[padding] = facts.sep_id, facts.cls_id, facts.pad_id

    # --- Masks --------------------------------------------------------------------------------------------------------
    layout = Layout(np.arange(begin, end), row_of, start, size, bounds[:-1], specials, number, run_length)
    masked = masking.choose(ids, layout, settings, facts, plan.key)
    masked_row = masked // length
    count = np.bincount(masked_row, minlength=rows)
    slots = (
        np.arange(len(masked)) + (np.arange(rows) * settings.max_predictions - (np.cumsum(count) - count))[masked_row]
    )
    flat["masked_lm_positions"][slots] = masked - masked_row * length
    flat["masked_lm_ids"][slots] = ids[masked]
    flat["masked_lm_weights"][slots] = 1.0
    ids[masked] = masking.replace(ids, masked, begin * length + masked, facts, plan.key)

    # --- Fields -------------------------------------------------------------------------------------------------------
    flat["input_ids"][:] = ids
    flat["token_type_ids"][:] = np.repeat(token_type, run_length)
    flat["example_ids"][:] = np.repeat(number, run_length)
    np.subtract(places, np.repeat(example_start, run_length), out=flat["position_ids"])
    flat["position_ids"][padding] = 0
    examples = row_of * settings.max_examples_per_row + slot
    flat["cls_positions"][examples] = start - row_of * length
    if settings.objective == "mlm_nsp":
        flat["next_sentence_labels"][examples] = plan.examples.is_random[chosen]
        flat["next_sentence_weights"][examples] = 1.0
