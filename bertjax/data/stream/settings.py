"""How examples are made in one phase: what decides the order and content of the batches, corpus and seed aside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertjax.batch import CORE, FIELDS, Field, shapes
from bertjax.data.stream.blocks import Block, Sentences
from bertjax.errors import ConfigError

# Version of the rules that turn a corpus into examples; a run keeps the one that it began with.
# 1: next-sentence pairs of sentences of any length; whole words as the pieces' marks say, of any length.
# 2: sentences that no pair has room for are split first (examples.split_pairs); words as text.word_boundaries has them.
ORDER = 2


@dataclass(frozen=True)
class ExampleMaker:
    """How an objective makes examples; its part of ``data.stream``.

    name: the objective's. special_tokens: [CLS] and [SEP] of an example: 3 in a pair A, B, 2 without a B.
    split: (block, sentences of it, settings) -> both without sentences that are too long.
    make: (block, sentences, settings, seed, epoch) -> ``examples.Examples`` of all sentences; a pure function.
    labels, weights: the fields [B, E] for the label of each example and whether it has one.
    """

    name: str
    special_tokens: int
    split: Callable[[Block, Sentences, "ExampleSettings"], tuple[Block, Sentences]]
    make: Callable[[Block, Sentences, "ExampleSettings", int, int], Any]
    labels: str = "next_sentence_labels"
    weights: str = "next_sentence_weights"

    @property
    def fields(self) -> Mapping[str, Field]:
        """Of its batches."""
        return CORE | {self.labels: FIELDS["next_sentence_labels"], self.weights: FIELDS["next_sentence_weights"]}


@dataclass(frozen=True)
class ExampleSettings:
    """Everything but the corpus and the seed that the examples of a phase depend on.

    ``max_examples_per_row`` is 1 when packing is off; a row is then one pair, masked as in 2018. ``block_tokens`` is
    the same in all phases of a run, as a phase can end inside a block.
    """

    maker: ExampleMaker
    sequence_length: int = 128
    max_predictions: int = 20
    max_examples_per_row: int = 8
    masked_lm_prob: float = 0.15
    short_seq_prob: float = 0.1
    whole_word_masking: bool = False
    block_tokens: int = 8_000_000
    order: int = ORDER

    def __post_init__(self) -> None:
        if self.sequence_length < self.maker.special_tokens + 2:
            raise ConfigError(
                f"sequence_length = {self.sequence_length} is too small; "
                f"the least for {self.maker.name} is {self.maker.special_tokens + 2}"
            )

    def empty(self, rows: int, pad_id: int = 0) -> dict[str, np.ndarray]:
        """A batch of rows of padding only: every weight is zero, ``input_ids`` holds ``pad_id``."""
        sizes = self.sequence_length, self.max_predictions, self.max_examples_per_row
        batch = {name: np.zeros(*field) for name, field in shapes(rows, *sizes, self.maker.fields).items()}
        batch["input_ids"][:] = pad_id
        return batch

    @property
    def room(self) -> int:
        """Tokens of text that fit in an example that fills its row."""
        return self.sequence_length - self.maker.special_tokens
