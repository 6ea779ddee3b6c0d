"""The plan of a block: which examples it holds and how they are packed in rows, for all phases that read from it.

A plan is a pure function of (corpus, settings of the phases, seed, epoch, block, cuts); it holds no tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertjax.data.corpus.arrays import Corpus
from bertjax.data.stream.blocks import Sentences, num_blocks, read_block
from bertjax.data.stream.examples import Examples
from bertjax.data.stream.hashing import derive
from bertjax.data.stream.packing import Rows, pack
from bertjax.data.stream.settings import ExampleSettings
from bertjax.errors import DataError


@dataclass(frozen=True)
class BlockPlan:
    """The rows of a block that are left for a phase, in reading order."""

    examples: Examples
    rows: Rows
    # Tokens of each example, specials included.
    lengths: np.ndarray
    # For the masks: no two rows of a run have the same (key, row number).
    key: int

    def __len__(self) -> int:
        return len(self.rows)


def plan_block(
    corpus: Corpus,
    phases: Sequence[ExampleSettings],
    seed: int,
    phase_index: int,
    epoch: int,
    block: int,
    cuts: Sequence[tuple[int, int]] = (),
) -> BlockPlan:
    """The plan of a block for phase ``phase_index``, after the phases in ``cuts`` have read their rows of it.

    ``cuts``: (phase index, rows read) in order, see ``Cursor``. Every phase is planned in turn, from the sentences
    in rows that the one before did not read. Raises DataError for a block, phase or number of rows that does not exist.
    """
    block_tokens = phases[phase_index].block_tokens
    if not 0 <= block < num_blocks(corpus, block_tokens):
        raise DataError(f"the data position names block {block}, the corpus has {num_blocks(corpus, block_tokens)}")
    table = read_block(corpus, block_tokens, seed, epoch, block)
    sentences = table.sentences
    for number, (phase, read) in enumerate((*cuts, (phase_index, 0))):
        if phase >= len(phases):
            raise DataError(f"the data position names phase {phase}, the run has {len(phases)}")
        settings = phases[phase]
        block_of_phase, sentences = settings.maker.split(table, sentences, settings)
        examples = settings.maker.make(block_of_phase, sentences, settings, seed, epoch)
        lengths = examples.a_length + examples.b_length + settings.maker.special_tokens
        key = derive(seed, epoch, block, number)
        rows = pack(lengths, settings.sequence_length, settings.max_examples_per_row, key)
        if number < len(cuts):
            sentences = _unread(sentences, examples, rows, read)
    return BlockPlan(examples, rows, lengths, key)


def _unread(sentences: Sentences, examples: Examples, rows: Rows, read: int) -> Sentences:
    """The sentences of the examples in the rows from number ``read`` on."""
    if read > len(rows):
        raise DataError(f"the data position counts {read} rows in a block that has {len(rows)}")
    left = rows.examples[rows.bounds[read] :]
    edges = np.zeros(len(sentences) + 1, np.int64)
    edges[examples.first_sentence[left]] += 1
    edges[examples.next_sentence[left]] -= 1
    return sentences.select(np.cumsum(edges[:-1]) > 0)
