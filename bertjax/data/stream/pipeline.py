"""Corpus -> batches: the stream of rows that a run reads, in global batches, read ahead by Grain.

The stream is the rows of every block's plan, block after block, epoch after epoch. A global batch of B rows is the
next B rows of the stream, across the ends of blocks and epochs; a process makes only its own rows of it.
"""

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import grain
import numpy as np

from bertjax.batch import Batch
from bertjax.data.corpus.arrays import Corpus, check_lengths
from bertjax.data.stream.assembly import GROUP_TOKENS, RowMaker
from bertjax.data.stream.block_plan import BlockPlan, plan_block
from bertjax.data.stream.blocks import num_blocks
from bertjax.data.stream.cursor import Cursor
from bertjax.data.stream.masking import TokenFacts
from bertjax.data.stream.settings import ExampleSettings
from bertjax.errors import ConfigError, DataError
from bertjax.text.interface import Tokenizer

# Held-out masks and pairs are the same in every run, whatever its seed.
EVALUATION_SEED = 20181011


class RowStream:
    """The endless stream of rows of a phase: a batch is a pure function of its start. Keeps the last plan."""

    def __init__(
        self, corpus: Corpus, facts: TokenFacts, phases: Sequence[ExampleSettings], seed: int, phase_index: int
    ) -> None:
        if corpus.num_tokens == 0:
            raise DataError("the corpus is empty")
        self._corpus, self._phases = corpus, tuple(phases)
        self._seed, self._phase_index = seed, phase_index
        self.settings = self._phases[phase_index]
        self._maker = RowMaker(corpus, facts, self.settings)
        self.pad_id = facts.tokenizer.pad_id
        self._blocks = num_blocks(corpus, self.settings.block_tokens)
        self._kept: tuple[tuple[Any, ...], BlockPlan] | None = None

    def plan(self, cursor: Cursor) -> BlockPlan:
        """The plan of the block at the cursor."""
        where = (cursor.epoch, cursor.block, cursor.cuts)
        if self._kept is None or self._kept[0] != where:
            self._kept = None  # frees the old plan, unless a batch is being made of it, before the new one is made
            corpus = self._corpus
            check_lengths(corpus.sentence_lengths, corpus.document_sentences, corpus.document_tokens)
            self._kept = (where, plan_block(corpus, self._phases, self._seed, self._phase_index, *where))
        return self._kept[1]

    def read(
        self, cursor: Cursor, batch_size: int, rows: np.ndarray, steps: int = 1, epoch_end: int | None = None
    ) -> list[tuple[Batch, Cursor]]:
        """``steps`` batches from the cursor on, each with the cursor after it.

        Of each global batch of ``batch_size`` rows only those numbered ``rows`` (ascending) are made. With
        ``epoch_end`` the stream ends before that epoch, and missing rows are empty, with weight 0. Making several small
        batches together takes much less time than one by one.
        """
        size = len(rows)
        parts: list[tuple[BlockPlan, list[np.ndarray]]] = []  # rows to make, by the plan that they are in
        cursors = []
        for _ in range(steps):
            done = 0
            while done < batch_size and (epoch_end is None or cursor.epoch < epoch_end):
                plan = self.plan(cursor)
                if cursor.row > len(plan):
                    raise DataError(f"the data position names row {cursor.row} of a block that has {len(plan)}")
                taken = min(batch_size - done, len(plan) - cursor.row)
                own = rows[np.searchsorted(rows, done) : np.searchsorted(rows, done + taken)]
                if not parts or parts[-1][0] is not plan:
                    parts.append((plan, []))
                parts[-1][1].append(own - done + cursor.row)
                done += taken
                cursor = self._advance(cursor, taken, len(plan))
            cursors.append(cursor)
        whole, made = self.settings.empty(steps * size, self.pad_id), 0
        for plan, numbers in parts:
            chosen, words = np.concatenate(numbers), self._maker.word_starts
            check_lengths(self._corpus.tokens, *([] if words is None else [words]))
            self._maker.assemble(whole, made, plan, chosen)
            made += len(chosen)
        batches = [{n: field[k * size : (k + 1) * size] for n, field in whole.items()} for k in range(steps)]
        return list(zip(batches, cursors, strict=True))

    def _advance(self, cursor: Cursor, rows: int, rows_in_block: int) -> Cursor:
        if cursor.row + rows < rows_in_block:
            return replace(cursor, row=cursor.row + rows)
        if cursor.block + 1 < self._blocks:
            return Cursor(cursor.epoch, cursor.block + 1)
        return Cursor(cursor.epoch + 1)


class _BatchIterator(grain.DatasetIterator):
    """Grain's view of the stream: yields ``place(batch, cursor after it)``; its state is the cursor. An element is a
    whole batch: per row, Grain would cost more than the work itself."""

    def __init__(
        self,
        stream: RowStream,
        batch_size: int,
        rows: np.ndarray,
        cursor: Cursor,
        place: Callable[[Batch, Cursor], Any],
    ) -> None:
        super().__init__()
        self._stream, self._batch_size, self._rows, self._cursor = stream, batch_size, rows, cursor
        self._place = place
        self._most_steps = GROUP_TOKENS // max(1, len(rows) * stream.settings.sequence_length)
        self._ready: list[tuple[Batch, Cursor]] = []

    def __next__(self) -> Any:
        if not self._ready:
            # Several small batches at once, but none of the next block.
            whole = (len(self._stream.plan(self._cursor)) - self._cursor.row) // self._batch_size
            steps = max(1, min(whole, self._most_steps))
            self._ready = self._stream.read(self._cursor, self._batch_size, self._rows, steps)[::-1]
        batch, self._cursor = self._ready.pop()
        return self._place(batch, self._cursor)

    def get_state(self) -> dict[str, Any]:
        return self._cursor.to_json()

    def set_state(self, state: dict[str, Any]) -> None:
        self._cursor, self._ready = Cursor.from_json(state), []


class Batches(Iterator[tuple[Any, Any]], contextlib.AbstractContextManager):
    """An endless iterator over (batch, position after the batch); made by ``open_batches`` or ``made_ahead``.

    However far batches are made ahead, the position belongs to the batch it comes with: saved with the state after that
    batch's update, it is where to continue. ``close`` stops the thread, which otherwise happens at exit.
    """

    def __init__(self, iterator: grain.DatasetIterator) -> None:
        # The only reference, dropped on closing: Grain's own clean-up fails during interpreter shutdown.
        self._open = [iterator]
        self._finalizer = weakref.finalize(self, _close, self._open)

    def __next__(self) -> tuple[Any, Any]:
        if not self._open:
            raise ValueError("the batches are closed")
        return next(self._open[0])

    def close(self) -> None:
        """Stops reading ahead and frees what was read; may be called twice. ``next`` then raises ValueError."""
        self._finalizer()

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(iterators: list[grain.DatasetIterator]) -> None:
    while iterators:
        iterators.pop().close()


def open_batches(
    corpus: Corpus,
    tokenizer: Tokenizer,
    phases: Sequence[ExampleSettings],
    seed: int,
    phase_index: int,
    batch_size: int,
    cursor: Cursor | None = None,
    rows: np.ndarray | None = None,
    prefetch: int = 4,
    place: Callable[[Batch, Cursor], Any] = lambda batch, cursor: (batch, cursor),
) -> Batches:
    """The batches of a phase from a cursor on, endless.

    ``phases``: settings of all phases of the run, ``phase_index`` the one that reads now. ``batch_size`` B: rows of
    a global batch. ``rows``: numbers, ascending, of the rows of every global batch to make here; all by default.
    ``prefetch``: batches made ahead in a thread; 0 makes each one on demand. The batches are the same for every
    ``prefetch``, and the parts of all processes make up the same global batch for any number of processes.
    ``place``: what that thread makes of a batch and the cursor after it; its result is what ``next`` returns.

    Raises ``ConfigError`` for settings that conflict, ``DataError`` for an empty corpus. ``next``
    raises errors that occur while batches are made ahead.
    """
    rows = np.arange(batch_size) if rows is None else np.asarray(rows)
    if len(rows) and not (rows[0] >= 0 and (np.diff(rows) > 0).all() and rows[-1] < batch_size):
        raise ConfigError(f"rows {rows[0]} to {rows[-1]} are not an ascending part of a batch of {batch_size} rows")
    if len({settings.block_tokens for settings in phases}) > 1:
        raise ConfigError("block_tokens must be the same in all phases")
    stream = RowStream(corpus, TokenFacts.of(tokenizer), phases, seed, phase_index)
    made = _BatchIterator(stream, batch_size, rows, cursor or Cursor(), place)
    return Batches(grain.experimental.ThreadPrefetchDatasetIterator(made, prefetch))


def made_ahead(make: Callable[[int], Any], first: int, prefetch: int) -> Batches:
    """``make(first)``, ``make(first + 1)`` and so on without end, ``prefetch`` of them made ahead in a thread."""
    made = grain.MapDataset.range(first, sys.maxsize).map(make)
    in_turn = made.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    return Batches(iter(grain.experimental.ThreadPrefetchIterDataset(in_turn, prefetch_buffer_size=prefetch)))


def evaluation_batches(
    corpus: Corpus,
    tokenizer: Tokenizer,
    settings: ExampleSettings,
    batch_size: int,
    max_rows: int,
    seed: int = EVALUATION_SEED,
) -> Iterator[Batch]:
    """Held-out batches: one pass over the corpus or its first ``max_rows`` rows, always the same.

    All batches have ``batch_size`` rows; in the last one, rows beyond the end are empty and have weight 0. A held-out
    split of one document draws random next sentences from that document.
    """
    stream = RowStream(corpus, TokenFacts.of(tokenizer), [settings], seed, 0)

    def one_pass() -> Iterator[Batch]:  # a function, so that the checks above are made at once
        cursor, left = Cursor(), max_rows
        while left > 0 and cursor.epoch == 0:
            ((batch, cursor),) = stream.read(cursor, batch_size, np.arange(batch_size), epoch_end=1)
            for name, field in batch.items():  # rows beyond the last one are empty
                field[left:] = stream.pad_id if name == "input_ids" else 0
            left -= batch_size
            yield batch

    return one_pass()
