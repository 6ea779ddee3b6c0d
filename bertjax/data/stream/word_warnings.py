"""Whether whole-word masking has an effect on a corpus: it is refused if not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bertjax.data.corpus.arrays import Corpus
from bertjax.data.stream.assembly import bits_at
from bertjax.data.stream.masking import TokenFacts, kept_words
from bertjax.data.stream.settings import ExampleSettings
from bertjax.data.stream.whole_words import MOST_PIECES, without_long_words, word_starts
from bertjax.errors import ConfigError

if TYPE_CHECKING:
    from bertjax.text.tokenizer import Tokenizer

# Share of the tokens in words of several pieces below which a run is warned that the option has little effect.
_LITTLE = 0.01
_CHUNK = 1 << 20  # tokens


def share_in_words(corpus: Corpus, tokenizer: Tokenizer, settings: ExampleSettings) -> float:
    """Share of the tokens that are masked with others of their word, in the first million tokens that have such words;
    0 if the whole corpus has none. Raises DataError if the corpus does not tell."""
    facts = TokenFacts.of(tokenizer)
    kept = kept_words(corpus, facts, settings)
    tokens = np.asarray(corpus.tokens)
    first = np.cumsum(corpus.sentence_lengths, dtype=np.int64) - corpus.sentence_lengths
    for begin in range(0, len(tokens), _CHUNK):
        ids = tokens[begin : begin + _CHUNK]
        if kept is not None:
            begins = bits_at(kept, np.arange(begin, begin + len(ids)))
        else:
            assert facts.marks is not None
            begins = word_starts(ids, facts.marks)
        begins[first[np.searchsorted(first, begin) : np.searchsorted(first, begin + len(ids))] - begin] = True
        begins[0] = True
        sizes = np.diff(np.flatnonzero(without_long_words(begins)), append=len(ids))
        if (several := int(sizes[sizes > 1].sum())) > 0:
            return several / len(ids)
    return 0.0


def check_words(corpus: Corpus, tokenizer: Tokenizer, settings: ExampleSettings, key: str) -> list[str]:
    """A warning if whole-word masking, switched on by ``key``, has little effect.

    Raises ConfigError if it has none, DataError if the corpus does not tell where words begin.
    """
    if not settings.whole_word_masking or settings.order == 1:
        return []
    share = share_in_words(corpus, tokenizer, settings)
    words = f"words of 2 to {MOST_PIECES} pieces, which are masked together"
    if not share:
        raise ConfigError(f"{key} has no effect: the corpus has no {words}, by its tokenizer; leave it out")
    if share < _LITTLE:
        return [f"{key} does little: {share:.2%} of the tokens are in {words}; the others are masked one by one"]
    return []
