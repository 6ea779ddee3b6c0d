"""How the examples of one phase are made: the part of the config that decides order and content of the batches."""

from __future__ import annotations

from dataclasses import dataclass

from bertjax.config import RunConfig
from bertjax.errors import ConfigError

# Version of the rules that turn a corpus into examples; a run keeps the one that it began with.
# 1: next-sentence pairs of sentences of any length; whole words as the pieces' marks say, of any length.
# 2: sentences that no pair has room for are split first (pairs.split_long); words as text.word_boundaries has them.
ORDER = 2


@dataclass(frozen=True)
class ExampleSettings:
    """Everything but the corpus and the seed that the examples of a phase depend on.

    ``max_examples_per_row`` is 1 when packing is off; a row is then one pair, masked as in 2018. ``block_tokens`` is
    the same in all phases of a run, as a phase can end inside a block.
    """

    objective: str = "mlm_nsp"
    sequence_length: int = 128
    max_predictions: int = 20
    max_examples_per_row: int = 8
    masked_lm_prob: float = 0.15
    short_seq_prob: float = 0.1
    whole_word_masking: bool = False
    block_tokens: int = 8_000_000
    order: int = ORDER

    def __post_init__(self) -> None:
        if self.objective not in ("mlm_nsp", "mlm"):
            raise ConfigError(f"objective = {self.objective!r}; allowed: mlm, mlm_nsp")
        if self.sequence_length < self.special_tokens + 2:
            raise ConfigError(
                f"sequence_length = {self.sequence_length} is too small; "
                f"the least for {self.objective} is {self.special_tokens + 2}"
            )

    @property
    def special_tokens(self) -> int:
        """[CLS] and [SEP] of one example: 3 in a pair, 2 without a second sentence."""
        return 3 if self.objective == "mlm_nsp" else 2

    @property
    def room(self) -> int:
        """Tokens of text that fit in an example that fills its row."""
        return self.sequence_length - self.special_tokens

    @property
    def longest_sentence(self) -> int:
        """Tokens of a sentence that stays whole."""
        return 2**62 if self.objective == "mlm_nsp" and self.order < 2 else self.room

    @property
    def piece(self) -> int:
        """Tokens of the pieces that a longer sentence is split into. Two of them fill a pair, so that one can be the
        real next sentence of the other, and at most one token is truncated; a piece that filled it alone would always
        face a random text, and lose half of its tokens to it."""
        return -(-self.room // 2) if self.objective == "mlm_nsp" else self.room

    @classmethod
    def from_config(cls, run: RunConfig, phase_index: int, order: int = ORDER) -> ExampleSettings:
        """The settings of phase number ``phase_index`` (order of ``run.phases``) by version ``order`` of the rules."""
        phase = list(run.phases.values())[phase_index]
        return cls(
            objective=run.data.objective,
            sequence_length=phase.sequence_length,
            max_predictions=phase.max_predictions,
            max_examples_per_row=run.data.max_examples_per_row if run.data.packing else 1,
            masked_lm_prob=run.data.masked_lm_prob,
            short_seq_prob=run.data.short_seq_prob,
            whole_word_masking=run.data.whole_word_masking,
            block_tokens=run.data.block_tokens,
            order=order,
        )
