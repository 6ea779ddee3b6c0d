"""Whole-word masking: where words begin and end in the tokens of a row, and which of them fit into a quota."""

import numpy as np

# A word of more pieces is masked piece by piece: it would hardly ever fit into what is left of a row's predictions,
# and it is mostly not a word (a protein, an address, a run of signs). In German, Turkish, Russian, Korean, Arabic,
# Hindi, French and Japanese, in vocabularies of 8,000 pieces, up to 0.2 % of the tokens are in words longer than this.
MOST_PIECES = 8


def ranges(start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """start[0], start[0] + 1, .. (size[0] of them), start[1], .."""
    return np.repeat(start - (np.cumsum(size) - size), size) + np.arange(int(size.sum()))


def without_long_words(begins: np.ndarray) -> np.ndarray:
    """``begins``, with every piece of a word of more than ``MOST_PIECES`` as its own word. ``begins[0]`` is True."""
    at = np.flatnonzero(begins)
    size = np.diff(at, append=len(begins))
    long = size > MOST_PIECES
    begins[ranges(at[long], size[long])] = True
    return begins


def bits_at(packed: np.ndarray, index: np.ndarray) -> np.ndarray:
    """bool: bits of ``packed`` (lowest first); anything for an index beyond it, which is padding."""
    bits = np.asarray(packed).take(index >> 3, mode="clip") >> (index & 7).astype(np.uint8)
    return (bits & 1).astype(bool)


def chosen_pieces(begins: np.ndarray, sizes: np.ndarray, quota: np.ndarray, fill: bool) -> np.ndarray:
    """bool: which of the pieces, sorted by example and word, are masked.

    As in the original, the words of an example are taken in order, and a word that would exceed the quota is skipped.
    With ``fill``, if no word fits into what is left, the first skipped word gives some of its pieces, so that as many
    tokens are masked as without whole words. ``begins``: first pieces
    of words; ``sizes`` [examples]: pieces of each example.
    """
    word_of_piece = np.cumsum(begins) - 1
    pieces = np.bincount(word_of_piece, minlength=1)
    words = np.add.reduceat(begins, (np.cumsum(sizes) - sizes)[sizes > 0], dtype=np.int64) if sizes.any() else sizes[:0]
    begin = np.zeros(len(sizes), np.int64)
    begin[sizes > 0] = np.cumsum(words) - words
    end = begin.copy()
    end[sizes > 0] += words
    # All words before the first that does not fit are taken at once; the rest one by one, all examples in step.
    total = np.concatenate(([0], np.cumsum(pieces)))
    here = np.minimum(np.searchsorted(total, total[begin] + quota, side="right") - 1, end)
    taken = np.zeros(len(pieces) + 1, np.int64)
    np.add.at(taken, begin, 1)
    np.add.at(taken, here, -1)
    taken = np.cumsum(taken)[:-1] > 0
    left = quota - (total[here] - total[begin])
    active = np.flatnonzero((left > 0) & (here < end))
    while active.size:
        fits = pieces[here[active]] <= left[active]
        taken[here[active[fits]]] = True
        left[active[fits]] -= pieces[here[active[fits]]]
        here[active] += 1
        active = active[(left[active] > 0) & (here[active] < end[active])]
    masked = taken[word_of_piece]
    short = np.flatnonzero(left > 0)
    if fill and short.size:
        passed_over = np.flatnonzero(~taken)
        word = passed_over[np.searchsorted(passed_over, begin[short])]
        masked[ranges(total[word], left[short])] = True
    return masked
