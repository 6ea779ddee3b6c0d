"""How often a text's own partner is the nearest of all. Equal texts and known partners do not compete with it."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

_CHUNK = 1024  # first texts that are compared with all candidates at once


class Ranks(NamedTuple):
    """own int64 [N]: the rank of each first text's own second text among its candidates, 1 is the nearest; after all
    with the same cosine. rivals int64 [N]: how many other candidates there are."""

    own: np.ndarray
    rivals: np.ndarray


def ranks(first: np.ndarray, second: np.ndarray, texts: np.ndarray, negatives: np.ndarray | None = None) -> Ranks:
    """Ranks of unit vectors [N, H] among all different second texts and ``negatives`` [K, H].

    texts: int [2 N + K], numbers of the first texts, the second and the negatives; equal texts have equal numbers. A
    text that equals a first text, or that any pair pairs with it, is not among its rivals.
    """
    count = len(first)
    firsts, seconds, candidates = texts[:count], texts[count : 2 * count], texts[count:]
    vectors = second if negatives is None else np.concatenate([second, negatives])
    numbers, places = np.unique(candidates, return_index=True)
    pool = vectors[places]
    column = {int(number): place for place, number in enumerate(numbers)}
    belongs: dict[int, set[int]] = defaultdict(set)
    for one, other in zip(firsts.tolist(), seconds.tolist(), strict=True):
        belongs[one] |= {one, other}
        belongs[other] |= {one, other}
    kept = {one: [column[text] for text in belongs[one] if text in column] for one in set(firsts.tolist())}
    own = []
    for begin in range(0, count, _CHUNK):
        cosines = first[begin : begin + _CHUNK] @ pool.T
        rows = range(len(cosines))
        best = cosines[rows, [column[int(text)] for text in seconds[begin : begin + _CHUNK]]]
        is_before = cosines >= best[:, None]
        for row in rows:
            is_before[row, kept[int(firsts[begin + row])]] = False
        own.append(1 + is_before.sum(axis=1))
    rivals = [len(pool) - len(kept[int(text)]) for text in firsts]
    return Ranks(np.concatenate(own), np.array(rivals))


def retrieval_scores(own: np.ndarray) -> dict[str, float]:
    """From ``Ranks.own``: ``accuracy``, how often it is 1, and ``mrr``, the mean of one over it."""
    return {"accuracy": float((own == 1).mean()), "mrr": float((1.0 / own).mean())}
