"""Which documents are held out from training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bertjax.data.corpus.staging import Staged

# The last sentences of a single document are held out if it has this many.
_LEAST_SENTENCES_TO_CUT = 20


@dataclass(frozen=True)
class Ranges:
    """Runs of whole sentences, one per document, in order: first and last (exclusive) sentence and token of each,
    int64 [documents, 2]."""

    sentences: np.ndarray
    tokens: np.ndarray

    def counts(self) -> dict[str, int]:
        """For the manifest."""
        sentences, tokens = (int((ranges[:, 1] - ranges[:, 0]).sum()) for ranges in (self.sentences, self.tokens))
        return {"documents": len(self.sentences), "sentences": sentences, "tokens": tokens}


@dataclass(frozen=True)
class Split:
    """What is trained on, what is held out, and how the choice was made.

    kind: ``documents`` (whole documents, by a hash of their text), ``tail`` (the last sentences of the only
    document) or ``copy`` (nothing could be held out: the held-out text is trained on as well).
    """

    kind: str
    train: Ranges
    held_out: Ranges


def split(staged: Staged, fraction: float) -> Split:
    """Holds out about ``fraction`` of the documents.

    A document is held out by a hash of its text, so equal documents are never on both sides, and a document that is
    in two corpora is held out of both or of neither. At least one is held out if there are two different ones,
    two if there are eight (a random next sentence comes from another document). With fraction 0, or if all
    documents are equal, none is: ``copy``, or ``tail`` for one document of 20 sentences or more.
    """
    unique = np.unique(staged.document_hashes)
    if len(unique) >= 2 and fraction > 0:
        wanted = int(np.searchsorted(unique, np.uint64(int(fraction * (1 << 64)) & (2**64 - 1))))
        least, most = (2 if len(unique) >= 8 else 1), len(unique) - (2 if len(unique) >= 4 else 1)
        is_held_out = np.isin(staged.document_hashes, unique[: min(max(wanted, least), most)])
        return Split("documents", _documents(staged, ~is_held_out), _documents(staged, is_held_out))
    everything = _documents(staged, np.ones(staged.num_documents, bool))
    sentences, tokens = int(staged.document_sentences[1]), int(staged.document_tokens[1])
    if staged.num_documents == 1 and fraction > 0 and sentences >= _LEAST_SENTENCES_TO_CUT:
        cut = sentences - max(2, round(fraction * sentences))
        token = int(staged.sentence_lengths[:cut].sum(dtype=np.int64))
        part = lambda first, last, begin, end: Ranges(np.array([[first, last]]), np.array([[begin, end]]))
        return Split("tail", part(0, cut, 0, token), part(cut, sentences, token, tokens))
    copied = np.zeros(staged.num_documents, bool)
    copied[np.flatnonzero(staged.document_hashes == unique[0])[0]] = True
    if fraction == 0 and len(unique) >= 8:
        copied = np.isin(staged.document_hashes, unique[: max(2, len(unique) // 50)])
    return Split("copy", everything, _documents(staged, copied))


def _documents(staged: Staged, chosen: np.ndarray) -> Ranges:
    """Whole documents, chosen by a mask."""
    bounds = staged.document_sentences, staged.document_tokens
    return Ranges(*(np.stack([of[:-1][chosen], of[1:][chosen]], axis=1) for of in bounds))
