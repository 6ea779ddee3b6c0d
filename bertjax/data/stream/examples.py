"""Examples of a block, and what their makers share: sentences split to fit, chunks gathered, pairs truncated.

The rules are those of ``create_instances_from_document`` and ``truncate_seq_pair`` in create_pretraining_data.py of
google-research/bert. There they are loops over one generator; here a draw is hashed from the token position of the
sentence it is made for, so that cut, kind and end of the chunk are known for every sentence as a possible first one
before the chain of the chunks is followed.

A sentence that is longer than a pair is split beforehand: the original truncates it, and what it truncates of a
sentence of thousands of tokens is nearly all of it.
"""

from dataclasses import dataclass

import numpy as np

from bertjax.data.stream.blocks import Block, Sentences
from bertjax.data.stream.hashing import Purpose, below, chance, derive, draw, high, low
from bertjax.data.stream.settings import ExampleSettings


@dataclass(frozen=True)
class Examples:
    """Examples of a block in the order of its documents; arrays with one entry each, int64 unless told otherwise.

    A and B are runs of tokens of the corpus, after truncation. The example uses up the sentences
    first_sentence : next_sentence of the table it was made of; each sentence is used by exactly one example.
    """

    a_start: np.ndarray
    a_length: np.ndarray
    b_start: np.ndarray
    b_length: np.ndarray
    is_random: np.ndarray  # bool: B is a random text
    has_next: np.ndarray  # bool: a sentence follows A, so that either label was possible
    first_sentence: np.ndarray
    next_sentence: np.ndarray
    label: np.ndarray  # int, from 0
    has_label: np.ndarray  # bool

    def __len__(self) -> int:
        return len(self.a_start)


def split_runs(block: Block, sentences: Sentences, settings: ExampleSettings) -> tuple[Block, Sentences]:
    """``block`` and ``sentences``, a subset of its own, with every sentence that is too long for a row split into
    pieces that fill one and a rest."""
    room = settings.room
    pieces = _pieces(sentences, room, room)
    return block, sentences if pieces is None else _split(sentences, pieces, room, room * pieces - room)


def split_pairs(block: Block, sentences: Sentences, settings: ExampleSettings) -> tuple[Block, Sentences]:
    """``block`` and ``sentences``, a subset of its own, with every sentence split that is too long for a pair. The pool
    that random texts are drawn from is split alike, or a random text would begin where no real one does."""
    sentences, _ = _halved(sentences, settings)
    pool, pieces = _halved(block.pool, settings)
    if pieces is None:
        return block, sentences
    bounds = np.concatenate(([0], np.cumsum(pieces)))[block.pool_bounds]
    return Block(sentences, pool, bounds), sentences


def pair_piece(room: int) -> int:
    """Tokens of the pieces that a sentence too long for a pair is split into. Two of them fill a pair, so that one can
    be the real next sentence of the other, and at most one token is truncated; a piece that filled it alone would
    always face a random text, and lose half of its tokens to it."""
    return -(-room // 2)


def _halved(sentences: Sentences, settings: ExampleSettings) -> tuple[Sentences, np.ndarray | None]:
    """The sentences with those split that no pair has room for, and into how many pieces each (None: all are whole).
    The last two pieces of a sentence share what is left: a full stop alone would not be a useful piece."""
    piece = pair_piece(settings.room)
    # Version 1 of the rules split nothing.
    pieces = _pieces(sentences, settings.room if settings.order > 1 else 2**62, piece)
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


def fragments(sentences: Sentences, settings: ExampleSettings, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """For every sentence: the end of its fragment (a row number) and the target length drawn for the fragment."""
    first = np.flatnonzero(sentences.first_of_fragment())
    size = np.diff(first, append=len(sentences))
    bits = draw(derive(seed, Purpose.TARGET_LENGTH, epoch), sentences.start[first])
    short = 2 + below(low(bits), settings.room - 1)
    target = np.where(chance(high(bits), settings.short_seq_prob), short, settings.room)
    return np.repeat(first + size, size), np.repeat(target, size)


def follow(following: np.ndarray) -> np.ndarray:
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


def truncate(
    a_start: np.ndarray, a_length: np.ndarray, b_start: np.ndarray, b_length: np.ndarray, room: int, key: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Drops tokens until A and B together fit in ``room``: closed form of the original's loop.

    The loop drops from the longer side, from B when they are equal, one token at a time, at the front or the back by
    a toss: first the difference goes, then the two take turns, B first. The tosses of a side are the bits of its draws
    for ``a_start``.
    """
    excess = np.maximum(a_length + b_length - room, 0)
    from_longer = np.minimum(excess, np.abs(a_length - b_length))
    rest = excess - from_longer
    a_drop = np.where(a_length > b_length, from_longer, 0) + rest // 2
    b_drop = np.where(a_length > b_length, 0, from_longer) + (rest + 1) // 2
    a_front = _heads(a_drop, derive(key, Purpose.TRUNCATE_A), a_start)
    b_front = _heads(b_drop, derive(key, Purpose.TRUNCATE_B), a_start)
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
