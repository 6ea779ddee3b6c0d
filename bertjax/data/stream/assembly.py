"""Plans -> arrays: gathers the tokens of many rows at once and fills every field of the batch."""

import numpy as np

from bertjax.data.corpus.arrays import Corpus
from bertjax.data.stream import masking
from bertjax.data.stream.block_plan import BlockPlan
from bertjax.data.stream.masking import Layout, TokenFacts
from bertjax.data.stream.settings import ExampleSettings
from bertjax.data.stream.whole_words import bits_at, ranges

# Rows are made in groups of about this many tokens, so that the arrays of a group stay in the cache.
GROUP_TOKENS = 1 << 16


class RowMaker:
    """Makes the rows of a phase. Raises DataError if whole words are masked and the corpus does not tell where they
    begin."""

    def __init__(self, corpus: Corpus, facts: TokenFacts, settings: ExampleSettings) -> None:
        self._tokens = np.asarray(corpus.tokens)  # a plain view: np.memmap is slow to index
        self.word_starts = masking.kept_words(corpus, facts, settings)
        self._facts, self._settings = facts, settings

    def assemble(self, batch: dict[str, np.ndarray], at: int, plan: BlockPlan, rows: np.ndarray) -> None:
        """Writes the ``rows`` (their numbers in the plan) into ``batch``, starting at its row ``at``. ``batch`` comes
        from ``settings.empty`` (contiguous), with B at least ``at + len(rows)``."""
        step = max(1, GROUP_TOKENS // self._settings.sequence_length)
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            # Flattened views of whole rows, not copies.
            flat = {name: field[at + first : at + first + len(part)].reshape(-1) for name, field in batch.items()}
            self.mask(flat, self.gather(flat, plan, part), plan)

    def gather(self, flat: dict[str, np.ndarray], plan: BlockPlan, numbers: np.ndarray) -> Layout:
        """Fills everything but the masks of the rows ``numbers``; returns where their examples are. ``flat``: the
        fields of these rows only, flattened to one dimension."""
        settings, tokens = self._settings, self._tokens
        rows, length = len(numbers), settings.sequence_length
        row_start = np.arange(rows) * length
        per_row = plan.rows.bounds[numbers + 1] - plan.rows.bounds[numbers]
        first = np.cumsum(per_row) - per_row
        chosen = plan.rows.examples[ranges(plan.rows.bounds[numbers], per_row)]
        row_of = np.repeat(np.arange(rows), per_row)
        slot = np.arange(len(chosen)) - first[row_of]
        size, a_length = plan.lengths[chosen], plan.examples.a_length[chosen]
        used = np.add.reduceat(size, first)
        before = np.cumsum(size) - size
        start = before + (row_start - before[first])[row_of]

        # --- Runs: in each row [CLS] A [SEP], B [SEP], .., padding; special tokens are written over afterwards ------
        a_run = 2 * np.arange(len(chosen)) + row_of
        b_run, pad_run, runs = a_run + 1, 2 * (first + per_row) + np.arange(rows), 2 * len(chosen) + rows
        run_length = np.empty(runs, np.int64)
        run_length[a_run], run_length[b_run], run_length[pad_run] = a_length + 2, size - a_length - 2, length - used
        # Added to a place, gives the position of its token in the corpus.
        source = np.zeros(runs, np.int64)
        source[a_run] = plan.examples.a_start[chosen] - 1 - start
        source[b_run] = plan.examples.b_start[chosen] - 2 - start - a_length
        example_start, number, token_type = np.zeros((3, runs), np.int32)
        example_start[a_run] = example_start[b_run] = start
        number[a_run] = number[b_run] = slot + 1
        token_type[b_run] = 1

        # --- Places ---------------------------------------------------------------------------------------------------
        places = np.arange(rows * length, dtype=np.int32)
        padding = ranges(row_start + used, length - used)
        index = np.repeat(source, run_length)
        index += places
        ids = flat["input_ids"]
        # ``take`` is faster, but copies an array that is not contiguous as a whole.
        contiguous = tokens.flags.c_contiguous
        ids[:] = tokens.take(index, mode="clip") if contiguous else tokens[np.clip(index, 0, len(tokens) - 1)]
        separators = [start + a_length + 1, start + size - 1][: settings.maker.special_tokens - 1]
        specials = np.concatenate((start, *separators))
        special = self._facts.tokenizer
        ids[specials], ids[start], ids[padding] = special.sep_id, special.cls_id, special.pad_id

        # --- Fields ---------------------------------------------------------------------------------------------------
        flat["token_type_ids"][:] = np.repeat(token_type, run_length)
        flat["example_ids"][:] = np.repeat(number, run_length)
        np.subtract(places, np.repeat(example_start, run_length), out=flat["position_ids"])
        flat["position_ids"][padding] = 0
        examples = row_of * settings.max_examples_per_row + slot
        flat["cls_positions"][examples] = start - row_start[row_of]
        flat[settings.maker.labels][examples] = plan.examples.label[chosen]
        flat[settings.maker.weights][examples] = plan.examples.has_label[chosen]
        begins = None if self.word_starts is None else bits_at(self.word_starts, index)
        return Layout(numbers, used, first, row_of, start, size, specials, number, run_length, begins)

    def mask(self, flat: dict[str, np.ndarray], layout: Layout, plan: BlockPlan) -> None:
        """Masks the text that ``gather`` wrote: the masked-LM fields, and ``input_ids`` in place."""
        ids, length = flat["input_ids"], self._settings.sequence_length
        positions = masking.choose(ids, layout, self._settings, self._facts, plan.key)
        in_use = positions < length
        positions *= in_use
        masked = positions + np.arange(len(positions))[:, None] * length
        original = ids[masked]
        flat["masked_lm_positions"][:] = positions.reshape(-1)
        flat["masked_lm_ids"][:] = (original * in_use).reshape(-1)
        flat["masked_lm_weights"][:] = in_use.reshape(-1)
        # Unused slots point at the row's first place, a [CLS], which is written back unchanged.
        ids[masked] = np.where(in_use, masking.replace(original, layout.row, self._facts, plan.key), original)
