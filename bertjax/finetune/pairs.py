"""Pairs of texts for embeddings: their rows, what is wrong with them, and what a person must know of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bertjax.errors import DataError
from bertjax.finetune.batching import Rows
from bertjax.finetune.fitting import Room, fitted_rows
from bertjax.tasks.examples import TextExample
from bertjax.text.tokenizer import Tokenizer


class Pairs(NamedTuple):
    """rows: ``per_pair`` of them a pair, the first text, the second, its negatives, and rows without tokens where it
    has fewer. texts: int32 [N, per_pair], equal where the model is given the same tokens, -1 where there is no text.
    scores: float32 [N], None of pairs without. truncated: texts."""

    rows: Rows
    texts: np.ndarray
    scores: np.ndarray | None
    truncated: int

    @property
    def has_equal_texts(self) -> bool:
        there = self.texts[self.texts >= 0]
        return len(np.unique(there)) < len(there)

    @property
    def candidates(self) -> int:
        """How many different texts are second ones or negatives."""
        return len(np.unique(self.texts[:, 1:][self.texts[:, 1:] >= 0]))


def scores_of(examples: Sequence[TextExample]) -> np.ndarray | None:
    """float32 [N], or None where no pair has a score. Raises DataError where only some have one."""
    with_score = [example for example in examples if example.label is not None]
    if with_score and len(with_score) < len(examples):
        without = next(example for example in examples if example.label is None)
        raise DataError(
            f"{without.where}: the pair has no score, while {len(with_score):,} of {len(examples):,} pairs have one, "
            f"the first at {with_score[0].where}; give every pair a score, or none"
        )
    return np.array([example.label for example in with_score], np.float32) if with_score else None


def pair_rows(examples: Sequence[TextExample], tokenizer: Tokenizer, room: Room, per_pair: int) -> Pairs:
    """Raises DataError for a text without a second one, and see ``scores_of``."""
    texts, places, there = [], [], np.zeros((len(examples), per_pair), bool)
    for number, example in enumerate(examples):
        if example.second is None:
            raise DataError(f"{example.where}: an embedding is learned from pairs; there is one text")
        own = [example.text, example.second, *example.negatives][:per_pair]
        there[number, : len(own)] = True
        texts += own
        places += [example.where] * len(own)
    rows, truncated = fitted_rows(texts, places, tokenizer, room)
    numbers: dict[bytes, int] = {}
    equal = [numbers.setdefault(ids.tobytes(), len(numbers)) for ids in np.split(rows.input_ids, rows.starts[1:-1])]
    found = np.full(there.shape, -1, np.int32)
    found[there] = equal
    lengths = np.zeros(there.shape, np.int64)
    lengths[there] = rows.lengths
    starts = np.concatenate([[0], np.cumsum(lengths.reshape(-1))])
    return Pairs(replace(rows, starts=starts), found, scores_of(examples), truncated)


def most_negatives(examples: Sequence[TextExample]) -> int:
    """Of one pair."""
    return max(len(example.negatives) for example in examples)


def refuse_constant(scores: np.ndarray, examples: Sequence[TextExample], way_out: str) -> None:
    """Raises DataError where all scores are the same."""
    if np.ptp(scores) == 0:
        which = f"all {len(scores):,} scores are" if len(scores) > 1 else "the score of the only pair is"
        raise DataError(f"{examples[0].where}: {which} {scores[0]:g}, which is no order of pairs; {way_out}")


def refuse_one_candidate(pairs: Pairs, examples: Sequence[TextExample]) -> None:
    """Raises DataError where there is one second text, so that nothing can be told from it."""
    if pairs.candidates == 1:
        what = "is one pair" if len(examples) == 1 else f"are {len(examples):,} pairs with the same second text"
        raise DataError(
            f"{examples[0].where}: there {what}; a text is told from those of other pairs, so that two different "
            "second texts, or a negative, are the least"
        )


def pair_cautions(pairs: Pairs, what: str) -> list[str]:
    """Lines on texts that are equal; what: "training" or "evaluation"."""
    lines, count = [], len(pairs.texts)
    if same := int((pairs.texts[:, 0] == pairs.texts[:, 1]).sum()):
        lines.append(
            f"{same:,} of {count:,} {what} pairs are a text and itself: their cosine is 1 whatever the model has "
            "learned, but for dropout"
        )
    own = pairs.texts[:, :2, None] == pairs.texts[:, None, 2:]
    if wrong := int(own.any(axis=(1, 2)).sum()):
        lines.append(
            f"{wrong:,} of {count:,} {what} pairs have a negative that is one of their own texts; it is not used"
        )
    return lines


def pair_notes(pairs: Pairs, what: str) -> list[str]:
    """Lines on pairs that repeat others, and on negatives."""
    lines, count = [], len(pairs.texts)
    repeated = count - len(np.unique(pairs.texts[:, :2], axis=0))
    occurring = Counter(pairs.texts[pairs.texts >= 0].tolist())
    several = sum(times > 1 for times in occurring.values())
    if several:
        lines.append(
            f"{repeated:,} of {count:,} {what} pairs repeat an earlier one, {several:,} texts occur more than once: "
            "equal texts, and what they are paired with, are not told from each other"
        )
    if pairs.texts.shape[1] > 2:
        having = int((pairs.texts[:, 2:] >= 0).any(axis=1).sum())
        lines.append(
            f"{having:,} of {count:,} {what} pairs have negatives, {int((pairs.texts[:, 2:] >= 0).sum()):,} in all, "
            "which every pair of their batch is told from"
        )
    return lines
