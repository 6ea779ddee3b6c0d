"""Masked language modelling: which tokens are predicted, and what the model sees in their place.

The rules are those of ``create_masked_lm_predictions`` in create_pretraining_data.py of google-research/bert: 15 % of
an example's length, special tokens included, but never [CLS] or [SEP]; 80 % of them become [MASK], 10 % a random
token, 10 % stay. The draws are keyed by (plan, row, position), so that a row's masks do not depend on its batch and
change in every epoch.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from bertjax.data.corpus.arrays import Corpus
from bertjax.data.stream.hashing import Purpose, below, derive, draw, draw_rows, high, low
from bertjax.data.stream.settings import ExampleSettings
from bertjax.data.stream.whole_words import MOST_PIECES, bits_at, chosen_pieces, ranges, without_long_words
from bertjax.errors import ConfigError, DataError
from bertjax.text.interface import Tokenizer
from bertjax.text.word_boundaries import WordBoundaries

# Random bits in a position's sort key; one bit above them puts special tokens last.
_DRAW_BITS = 16
_MASK_SHARE = round(0.8 * 2**32)
_MASK_OR_RANDOM_SHARE = round(0.9 * 2**32)
# Share of the tokens in words of several pieces below which a run is warned that whole words have little effect.
_LITTLE = 0.01
_CHUNK = 1 << 20  # tokens


@dataclass(frozen=True)
class TokenFacts:
    """What the data needs to know about a tokenizer, as arrays."""

    tokenizer: Tokenizer
    replacements: np.ndarray  # int32: every id that is not special
    continues_word: np.ndarray  # bool [V]

    @cached_property
    def marks(self) -> WordBoundaries | None:
        """Where words begin, as far as ids tell; None if they do not tell for all."""
        return self.tokenizer.word_boundaries()

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """Raises ValueError if the vocabulary has only special tokens."""
        special = [*tokenizer.special_ids, tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
        replacements = np.setdiff1d(np.arange(tokenizer.vocab_size, dtype=np.int32), np.array(special, np.int32))
        if not len(replacements):
            raise ValueError("the vocabulary holds nothing but special tokens")
        return cls(tokenizer, replacements, np.asarray(tokenizer.continues_word(), bool))


def kept_words(corpus: Corpus, facts: TokenFacts, settings: ExampleSettings) -> np.ndarray | None:
    """``corpus.word_starts`` if whole-word masking needs them; None if it is off, or the ids tell. Raises DataError if
    the corpus does not have them."""
    if not settings.whole_word_masking or settings.order == 1 or facts.marks is not None:
        return None
    if corpus.word_starts is None:
        raise DataError(
            "data.whole_word_masking: the pieces of this tokenizer do not tell where words begin, and the corpus was "
            "prepared by a version of bertjax that did not keep it; prepare the text again into another folder, or "
            "leave data.whole_word_masking out"
        )
    return corpus.word_starts


@dataclass(frozen=True)
class Layout:
    """Where the examples of K rows of S tokens are; places count through all K * S positions, row after row. Every row
    holds at least one example. int64 arrays."""

    # Per row: its number in the plan of the block, tokens in use, number of its first example.
    row: np.ndarray
    used: np.ndarray
    first: np.ndarray
    # Per example, in the order of their places: row (0 .. K-1), place of [CLS], length with specials.
    row_of: np.ndarray
    start: np.ndarray
    length: np.ndarray
    # Places of [CLS] and [SEP], in any order.
    special: np.ndarray
    # Runs of places that belong to one example or to padding, row after row, K * S places in all: number of the
    # example in its row (1 .., 0 is padding), and length.
    run_number: np.ndarray
    run_length: np.ndarray
    # bool, per place: a word of the text begins here. For whole words in a corpus that records them.
    begins: np.ndarray | None = None


def quotas(layout: Layout, settings: ExampleSettings, key: int) -> np.ndarray:
    """How many tokens to mask in each example, int64.

    With one example per row, the original's min(max_predictions, max(1, round(prob * length))). With several, the
    cumulative length in the row is rounded with an offset keyed by the row: the sum over a row never exceeds
    max_predictions, and each example's expectation is prob * length (less where a row would overflow).
    """
    maskable = layout.length - settings.maker.special_tokens
    prob, most = settings.masked_lm_prob, settings.max_predictions
    if settings.max_examples_per_row == 1:
        wanted = np.clip(np.rint(layout.length * prob).astype(np.int64), 1, most)
        return np.minimum(wanted, maskable)
    end = layout.start - layout.row_of * settings.sequence_length + layout.length
    # The offset stays clear of 1 by more than a rounding error, so that floor(most + offset) = most.
    offset = (draw(derive(key, Purpose.QUOTA), layout.row) >> np.uint64(48)).astype(np.float64) / 2**16
    rate = np.minimum(prob, most / layout.used)
    until_end = np.floor(rate[layout.row_of] * end + offset[layout.row_of]).astype(np.int64)
    before = np.concatenate(([0], until_end[:-1]))
    before[layout.first] = 0
    return np.minimum(until_end - before, maskable)


def choose(ids: np.ndarray, layout: Layout, settings: ExampleSettings, facts: TokenFacts, key: int) -> np.ndarray:
    """int32 [K, P]: the positions to predict in each row, ascending; S in unused slots, which come last. Whole-word
    masking alone reads ``ids`` [K * S]; it masks as many tokens of each example as are masked without it."""
    length, rows = settings.sequence_length, len(layout.row)
    position_bits = (length - 1).bit_length()
    # Sort key of a place: example, special or not, draw, position. 32 bits if they suffice: they sort faster.
    example_shift = position_bits + _DRAW_BITS + 1
    narrow = example_shift + settings.max_examples_per_row.bit_length() <= 32
    kind = np.uint32 if narrow else np.uint64
    # Four draws of 16 bits from each hash, as hashing is a large part of the work; little-endian on all machines.
    bits = draw_rows(derive(key, Purpose.MASK_CHOICE), layout.row, -(-length // 4))
    keys = bits.astype("<u8", copy=False).view("<u2")[:, :length].astype(kind)
    words = None
    if settings.whole_word_masking:
        words = _words(ids, layout, facts, settings.order)
        keys = keys.reshape(-1)[words].reshape(rows, length)
    keys <<= kind(position_bits)
    # Padding comes after all examples.
    number = np.where(layout.run_number == 0, settings.max_examples_per_row, layout.run_number - 1).astype(kind)
    keys += np.repeat(number << kind(example_shift), layout.run_length).reshape(rows, length)
    keys += np.arange(length, dtype=kind)
    keys.reshape(-1)[layout.special] |= kind(1 << (position_bits + _DRAW_BITS))
    keys.sort(axis=1)

    # Sorting keeps each example's places together, specials last: the first of them are masked.
    quota, in_row = quotas(layout, settings, key), kind((1 << position_bits) - 1)
    if words is None:
        count = np.add.reduceat(quota, layout.first)
        chosen = keys.reshape(-1)[ranges(layout.start, quota)] & in_row
    else:
        maskable = layout.length - settings.maker.special_tokens
        ordered = (keys.reshape(-1)[ranges(layout.start, maskable)] & in_row).astype(np.int64)
        owner = np.repeat(layout.row_of, maskable)
        place = owner * length + ordered
        taken = chosen_pieces(words[place] == place, maskable, quota, fill=settings.order > 1)
        count, chosen = np.bincount(owner[taken], minlength=rows), ordered[taken]
    positions = np.full(rows * settings.max_predictions, length, np.int32)
    positions[ranges(np.arange(rows) * settings.max_predictions, count)] = chosen
    positions = positions.reshape(rows, settings.max_predictions)
    positions.sort(axis=1)
    return positions


def replace(original: np.ndarray, row: np.ndarray, facts: TokenFacts, key: int) -> np.ndarray:
    """What the model sees in place of the masked ids [K, P]: [MASK], a random token or the token itself. ``row`` [K]:
    numbers of the rows in the plan."""
    bits = draw_rows(derive(key, Purpose.MASK_ACTION), row, original.shape[1])
    action = high(bits)
    seen = np.where(action < np.uint64(_MASK_SHARE), np.int32(facts.tokenizer.mask_id), original)
    random = np.flatnonzero((action >= np.uint64(_MASK_SHARE)) & (action < np.uint64(_MASK_OR_RANDOM_SHARE)))
    drawn = below(low(bits.reshape(-1)[random]), len(facts.replacements))
    seen.reshape(-1)[random] = facts.replacements[drawn]
    return seen


def _words(ids: np.ndarray, layout: Layout, facts: TokenFacts, order: int) -> np.ndarray:
    """For every place, the place where its word begins; special tokens end words."""
    begins = ~facts.continues_word[ids] if order == 1 else _begins(ids, layout.begins, facts)
    begins[layout.special] = True
    begins[layout.special[layout.special + 1 < len(begins)] + 1] = True
    if order > 1:
        begins = without_long_words(begins)
    return np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))


def _begins(ids: np.ndarray, kept: np.ndarray | None, facts: TokenFacts) -> np.ndarray:
    """bool: which of the ``ids`` of a running text begin a word, as the corpus has ``kept`` it or by the ids."""
    if kept is not None:
        return kept
    assert facts.marks is not None  # or the corpus would have been refused
    begins = facts.marks.begins[ids]
    begins[1:] |= facts.marks.ends[ids[:-1]]
    return begins


def share_in_words(corpus: Corpus, tokenizer: Tokenizer, settings: ExampleSettings) -> float:
    """Share of the tokens that are masked with others of their word, in the first million tokens that have such words;
    0 if the whole corpus has none. Raises DataError if the corpus does not tell."""
    facts = TokenFacts.of(tokenizer)
    kept = kept_words(corpus, facts, settings)
    tokens = np.asarray(corpus.tokens)
    first = np.cumsum(corpus.sentence_lengths, dtype=np.int64) - corpus.sentence_lengths
    for begin in range(0, len(tokens), _CHUNK):
        ids = tokens[begin : begin + _CHUNK]
        places = np.arange(begin, begin + len(ids))
        begins = _begins(ids, None if kept is None else bits_at(kept, places), facts)
        begins[first[np.searchsorted(first, begin) : np.searchsorted(first, begin + len(ids))] - begin] = True
        begins[0] = True
        sizes = np.diff(np.flatnonzero(without_long_words(begins)), append=len(ids))
        if (several := int(sizes[sizes > 1].sum())) > 0:
            return several / len(ids)
    return 0.0


def check_words(corpus: Corpus, tokenizer: Tokenizer, settings: ExampleSettings, key: str) -> list[str]:
    """A warning if whole-word masking, switched on by ``key``, has little effect. Raises ConfigError if it has none,
    DataError if the corpus does not tell where words begin."""
    if not settings.whole_word_masking or settings.order == 1:
        return []
    share = share_in_words(corpus, tokenizer, settings)
    words = f"words of 2 to {MOST_PIECES} pieces, which are masked together"
    if not share:
        raise ConfigError(f"{key} has no effect: the corpus has no {words}, by its tokenizer; leave it out")
    if share < _LITTLE:
        return [f"{key} does little: {share:.2%} of the tokens are in {words}; the others are masked one by one"]
    return []
