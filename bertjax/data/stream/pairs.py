"""Sentences -> examples: next-sentence pairs by the rules of 2018, or runs of sentences for masked LM alone.

The rules are those of ``create_instances_from_document`` and ``truncate_seq_pair`` in create_pretraining_data.py of
google-research/bert. There they are loops over one generator; here a draw is hashed from the token position of the
sentence it is made for, so that cut, kind and end of the chunk are known for every sentence as a possible first one
before the chain of the chunks is followed.

One difference in distribution: a random document is drawn at once among the others of the block, instead of in at
most ten tries over all documents of an input file.

A sentence that is longer than a pair is split beforehand (``split_block``): the original truncates it, and what it
truncates of a sentence of thousands of tokens is nearly all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertjax.data.stream.blocks import Block, Sentences
from bertjax.data.stream.hashing import Purpose, below, chance, derive, draw, high, low
from bertjax.data.stream.settings import ExampleSettings

_BUCKET_BITS = 4  # buckets of 16 tokens: most sentences are longer


@dataclass(frozen=True)
class Examples:
    """Examples of a block in the order of its documents; int64 arrays, one entry each, but for ``is_random``.

    A and B are runs of tokens of the corpus, after truncation. The example uses up the sentences
    first_sentence : next_sentence of the table it was made of; each sentence is used by exactly one example.
    """

    a_start: np.ndarray
    a_length: np.ndarray
    b_start: np.ndarray
    b_length: np.ndarray
    is_random: np.ndarray  # bool: B is a random text; False under the objective mlm
    has_next: np.ndarray  # bool: there was a sentence to follow A, so that B could have been the real next one
    first_sentence: np.ndarray
    next_sentence: np.ndarray

    def __len__(self) -> int:
        return len(self.a_start)


def make_examples(block: Block, sentences: Sentences, settings: ExampleSettings, seed: int, epoch: int) -> Examples:
    """All examples of ``sentences``, a part of the block's own. Nothing is left over.

    With a single document in the pool, a random B comes from that document, which is what the original does
    after ten tries.
    """
    if settings.objective == "mlm":
        return _make_runs(sentences, settings, seed, epoch)
    return _make_pairs(block, sentences, settings, seed, epoch)


def split_long(sentences: Sentences, room: int) -> Sentences:
    """The same tokens with every sentence longer than ``room`` split into pieces of ``room`` tokens and a rest."""
    pieces = _pieces(sentences, room, room)
    return sentences if pieces is None else _split(sentences, pieces, room, room * pieces - room)


def split_block(block: Block, sentences: Sentences, settings: ExampleSettings) -> tuple[Block, Sentences]:
    """``block`` and ``sentences``, a part of its own, with every sentence split that is too long for a pair or run.

    The pool that random texts are drawn from is split alike, or a random text would begin where no real one does.
    """
    if settings.objective == "mlm":
        return block, split_long(sentences, settings.room)  # nothing is drawn
    sentences, _ = _halved(sentences, settings)
    pool, pieces = _halved(block.pool, settings)
    if pieces is None:
        return block, sentences
    bounds = np.concatenate(([0], np.cumsum(pieces)))[block.pool_bounds]
    return Block(sentences, pool, bounds), sentences


def _halved(sentences: Sentences, settings: ExampleSettings) -> tuple[Sentences, np.ndarray | None]:
    """The sentences with those split that no pair has room for, and into how many pieces each (None: all are whole).

    The last two pieces of a sentence share what is left: its full stop is no text of its own.
    """
    piece = settings.piece
    pieces = _pieces(sentences, settings.longest_sentence, piece)
    if pieces is None:
        return sentences, None
    before = piece * np.maximum(pieces - 2, 0)
    return _split(sentences, pieces, piece, before + (sentences.length - before + 1) // 2), pieces


def _pieces(sentences: Sentences, longest: int, piece: int) -> np.ndarray | None:
    """Into how many pieces each sentence is split; None where all stay whole."""
    if not len(sentences) or int(sentences.length.max()) <= longest:
        return None
    return np.where(sentences.length > longest, -(-sentences.length // piece), 1)


def _split(sentences: Sentences, pieces: np.ndarray, piece: int, last: np.ndarray) -> Sentences:
    """Pieces of ``piece`` tokens, but for the last two of a sentence: where they meet is its entry of ``last``."""
    owner = np.repeat(np.arange(len(pieces)), pieces)
    number = np.arange(len(owner)) - (np.cumsum(pieces) - pieces)[owner]
    is_last = number == pieces[owner] - 1
    begin = np.where(is_last & (number > 0), last[owner], number * piece)
    end = np.append(begin[1:], 0)
    end[is_last] = sentences.length
    return Sentences(sentences.start[owner] + begin, end - begin, sentences.document[owner])


def _fragments(sentences: Sentences, settings: ExampleSettings, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """For every sentence: the end of its fragment (a row number) and the target length drawn for the fragment."""
    first = np.flatnonzero(sentences.first_of_fragment())
    size = np.diff(first, append=len(sentences))
    bits = draw(derive(seed, Purpose.TARGET_LENGTH, epoch), sentences.start[first])
    short = 2 + below(low(bits), settings.room - 1)
    target = np.where(chance(high(bits), settings.short_seq_prob), short, settings.room)
    return np.repeat(first + size, size), np.repeat(target, size)


def _follow(following: np.ndarray) -> np.ndarray:
    """Rows reached from row 0 by ``row = following[row]`` before the end of the table, ascending.

    Fragments lie one after the other, so that the end of one is the start of the next: a single chain runs through all.
    It is followed eight steps at a time, and the steps between are filled in at once.
    """
    steps = [np.append(following, len(following))]  # the end of the table follows itself
    for _ in range(3):
        steps.append(steps[-1][steps[-1]])
    strides, row, reached = steps.pop().data, 0, []
    while row < len(following):
        reached.append(row)
        row = strides[row]
    rows = np.array(reached, np.int64)
    while steps:
        rows = np.stack((rows, steps.pop()[rows]), axis=1).reshape(-1)
    return rows[rows < len(following)]


def _first_reaching(total: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """First place in ``total`` (ascending, from 0) that is at least ``wanted``; the last place where none is.

    What ``searchsorted`` does, several times as fast: a table over buckets of tokens leads close to the place.
    """
    wanted = np.minimum(wanted, total[-1])
    below_bucket = np.concatenate(([0], np.cumsum(np.bincount(total >> _BUCKET_BITS))))
    places = below_bucket[wanted >> _BUCKET_BITS]
    behind = np.flatnonzero(total[places] < wanted)
    while behind.size:
        places[behind] += 1
        behind = behind[total[places[behind]] < wanted[behind]]
    return places


def _make_pairs(block: Block, sentences: Sentences, settings: ExampleSettings, seed: int, epoch: int) -> Examples:
    fragment_end, target = _fragments(sentences, settings, seed, epoch)
    total = np.concatenate(([0], np.cumsum(sentences.length)))
    # Every sentence as the first of a chunk: gather to the target or to the end of the fragment.
    chunk_end = np.minimum(_first_reaching(total, total[:-1] + target), fragment_end)
    size = chunk_end - np.arange(len(sentences))
    bits = draw(derive(seed, Purpose.PAIR, epoch), sentences.start)
    cut = np.arange(len(sentences)) + np.where(size > 1, 1 + below(high(bits), size - 1), 1)
    is_random = chance(low(bits), 0.5) | (size == 1)
    # Sentences that a random B displaces are put back: the next chunk starts with them.
    following = np.where(is_random, cut, chunk_end)

    chosen = _follow(following)
    cut, is_random, target, has_next = cut[chosen], is_random[chosen], target[chosen], size[chosen] > 1
    a_start, a_length = sentences.start[chosen], total[cut] - total[chosen]
    # Where B is random there may be no sentence at the cut; what is read there is replaced below.
    b_start = sentences.start[np.minimum(cut, len(sentences) - 1)]
    b_length = total[chunk_end[chosen]] - total[cut]
    randoms = np.flatnonzero(is_random)
    b_start[randoms], b_length[randoms] = _random_texts(
        block, sentences.document[chosen[randoms]], a_start[randoms], (target - a_length)[randoms], seed, epoch
    )
    a_start, a_length, b_start, b_length = _truncate(
        a_start, a_length, b_start, b_length, settings.room, derive(seed, epoch), chosen_ids=a_start
    )
    return Examples(a_start, a_length, b_start, b_length, is_random, has_next, chosen, following[chosen])


def _random_texts(
    block: Block, document: np.ndarray, ids: np.ndarray, wanted: np.ndarray, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of sentences of another document, from a random one on, until ``wanted`` tokens or its end."""
    bits = draw(derive(seed, Purpose.RANDOM_DOCUMENT, epoch), ids)
    documents = len(block.pool_bounds) - 1
    if documents > 1:
        other = below(high(bits), documents - 1)
        other += other >= document
    else:
        other = document
    begin, end = block.pool_bounds[other], block.pool_bounds[other + 1]
    first = begin + below(low(bits), end - begin)
    total = np.concatenate(([0], np.cumsum(block.pool.length)))
    # At least one sentence, even where A alone reaches the target.
    last = np.minimum(_first_reaching(total, total[first] + np.maximum(wanted, 1)), end)
    return block.pool.start[first], total[last] - total[first]


def _truncate(
    a_start: np.ndarray,
    a_length: np.ndarray,
    b_start: np.ndarray,
    b_length: np.ndarray,
    room: int,
    key: int,
    chosen_ids: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Drops tokens until A and B together fit in ``room``: closed form of the original's loop.

    The loop drops from the longer side, from B when they are equal, one token at a time, at the front or the back by
    a toss: first the difference goes, then the two take turns, B first. The tosses of a side are the bits of its draws.
    """
    excess = np.maximum(a_length + b_length - room, 0)
    from_longer = np.minimum(excess, np.abs(a_length - b_length))
    rest = excess - from_longer
    a_drop = np.where(a_length > b_length, from_longer, 0) + rest // 2
    b_drop = np.where(a_length > b_length, 0, from_longer) + (rest + 1) // 2
    a_front = _heads(a_drop, derive(key, Purpose.TRUNCATE_A), chosen_ids)
    b_front = _heads(b_drop, derive(key, Purpose.TRUNCATE_B), chosen_ids)
    return a_start + a_front, a_length - a_drop, b_start + b_front, b_length - b_drop


def _heads(tosses: np.ndarray, key: int, ids: np.ndarray) -> np.ndarray:
    """Number of heads in ``tosses`` fair tosses: toss j of entry i is bit j % 64 of draw j // 64 for ``ids[i]``."""
    heads = np.zeros_like(tosses)
    left = np.flatnonzero(tosses)
    word = 0
    while left.size:
        remaining = tosses[left] - 64 * word
        bits = draw(derive(key, word), ids[left])
        keep = np.minimum(remaining, 64).astype(np.uint64)
        bits &= np.uint64(0xFFFFFFFFFFFFFFFF) >> (np.uint64(64) - keep)
        heads[left] += np.bitwise_count(bits)
        left = left[remaining > 64]
        word += 1
    return heads


def _make_runs(sentences: Sentences, settings: ExampleSettings, seed: int, epoch: int) -> Examples:
    """Consecutive sentences of a document up to the target length; ``sentences`` are already split to the room."""
    fragment_end, target = _fragments(sentences, settings, seed, epoch)
    total = np.concatenate(([0], np.cumsum(sentences.length)))
    here = np.arange(len(sentences))
    beyond = total[:-1] + target + 1
    fits = np.where(beyond > total[-1], len(sentences), _first_reaching(total, beyond) - 1)
    following = np.minimum(np.maximum(fits, here + 1), fragment_end)
    chosen = _follow(following)
    length = total[following[chosen]] - total[chosen]
    none, no = np.zeros_like(chosen), np.zeros(len(chosen), bool)
    return Examples(sentences.start[chosen], length, none, none, no, no, chosen, following[chosen])
