"""Blocks: slices of a shuffled corpus that are planned at once, as tables of sentences.

The documents of an epoch are in the order of a keyed permutation, cut into ``num_blocks`` slices of equal size. Only
sentence lengths are read here, no tokens.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from bertjax.data.corpus.arrays import Corpus
from bertjax.data.stream.hashing import Purpose, derive, permute

# A block of few long documents borrows others, so that random next sentences come from at least so many.
_LEAST_DOCUMENTS_TO_DRAW_FROM = 16


@dataclass(frozen=True)
class Sentences:
    """A table of sentences (or pieces of sentences), one row each.

    ``start`` int64: position of the first token in ``corpus.tokens``; ``length`` int64: tokens, at least 1;
    ``document`` int64: number of the document inside the block, ascending.
    """

    start: np.ndarray
    length: np.ndarray
    document: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def select(self, chosen: np.ndarray | slice) -> Self:
        """The rows chosen by a mask, index array or slice."""
        return type(self)(self.start[chosen], self.length[chosen], self.document[chosen])

    def first_of_fragment(self) -> np.ndarray:
        """bool: True if a sentence does not directly follow the one before it in the text of the same document."""
        first = np.ones(len(self), bool)
        follows = self.start[1:] == self.start[:-1] + self.length[:-1]
        first[1:] = ~follows | (self.document[1:] != self.document[:-1])
        return first


@dataclass(frozen=True)
class Block:
    """One block: its own sentences, and the documents that random next sentences are drawn from.

    ``pool`` holds whole documents: those of the block first, in order, then borrowed ones. ``pool_bounds`` int64
    [documents + 1]: document i of the pool is rows bounds[i] : bounds[i+1] of ``pool``.
    """

    sentences: Sentences
    pool: Sentences
    pool_bounds: np.ndarray


def num_blocks(corpus: Corpus, block_tokens: int) -> int:
    """Blocks in an epoch, of about ``block_tokens`` tokens each; at most one per document."""
    wanted = round(corpus.num_tokens / block_tokens)
    return max(1, min(wanted, corpus.num_documents))


def block_documents(corpus: Corpus, block_tokens: int, seed: int, epoch: int, block: int) -> tuple[np.ndarray, int]:
    """(indices of the documents of a block in order, then borrowed ones; how many are its own)."""
    total, blocks = corpus.num_documents, num_blocks(corpus, block_tokens)
    begin, end = block * total // blocks, (block + 1) * total // blocks
    size = min(total, max(end - begin, _LEAST_DOCUMENTS_TO_DRAW_FROM))
    places = np.arange(begin, begin + size) % total
    return permute(places, total, derive(seed, Purpose.DOCUMENT_ORDER, epoch)), end - begin


def read_block(corpus: Corpus, block_tokens: int, seed: int, epoch: int, block: int) -> Block:
    """The sentences of a block. Reads sentence lengths, no tokens."""
    documents, own = block_documents(corpus, block_tokens, seed, epoch, block)
    bounds_in_corpus = np.asarray(corpus.document_sentences)
    first = bounds_in_corpus[documents]
    count = bounds_in_corpus[documents + 1] - first
    bounds = np.concatenate(([0], np.cumsum(count)))
    rows = np.arange(bounds[-1]) + np.repeat(first - bounds[:-1], count)
    length = np.asarray(corpus.sentence_lengths)[rows].astype(np.int64)
    before = np.cumsum(length) - length
    # Token offset of a document in the corpus minus its offset in this table.
    shift = np.asarray(corpus.document_tokens)[documents] - before[bounds[:-1]]
    pool = Sentences(before + np.repeat(shift, count), length, np.repeat(np.arange(len(documents)), count))
    return Block(pool.select(slice(0, int(bounds[own]))), pool, bounds)
