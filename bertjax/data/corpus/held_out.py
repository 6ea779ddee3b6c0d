"""Which documents are held out from training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertjax.data.corpus.staging import Staged

# Of a single document with this many sentences or more, the last ones are held out.
_LEAST_SENTENCES_TO_CUT = 20


@dataclass(frozen=True)
class Part:
    """A run of whole sentences of one staged document."""

    first_sentence: int
    last_sentence: int  # exclusive
    first_token: int
    last_token: int  # exclusive


@dataclass(frozen=True)
class Split:
    """The parts of the documents that are trained on and held out, and how the choice was made.

    kind: ``documents`` (whole documents, by a hash of their text), ``tail`` (the last sentences of the only
    document) or ``copy`` (nothing could be held out: it is text that is trained on as well).
    """

    kind: str
    train: list[Part]
    held_out: list[Part]


def split(staged: Staged, fraction: float) -> Split:
    """Holds out about ``fraction`` of the documents.

    A document is held out by a hash of its text, so equal documents never are on both sides, and a document that is
    in two corpora is held out of both or of neither. At least one is held out where there are two different ones,
    two where there are eight (a random next sentence comes from another document). With fraction 0, or where all
    documents are equal, nothing is: ``copy``, or ``tail`` for one document of 20 sentences or more.
    """
    unique = np.unique(staged.document_hashes)
    if len(unique) >= 2 and fraction > 0:
        wanted = int(np.searchsorted(unique, np.uint64(int(fraction * (1 << 64)) & (2**64 - 1))))
        least, most = (2 if len(unique) >= 8 else 1), len(unique) - (2 if len(unique) >= 4 else 1)
        chosen = unique[: min(max(wanted, least), most)]
        is_held_out = np.isin(staged.document_hashes, chosen)
        documents = np.arange(staged.num_documents)
        return Split("documents", _whole(staged, documents[~is_held_out]), _whole(staged, documents[is_held_out]))
    if staged.num_documents == 1 and fraction > 0:
        sentences = int(staged.document_sentences[1])
        if sentences >= _LEAST_SENTENCES_TO_CUT:
            cut = sentences - max(2, round(fraction * sentences))
            token = int(staged.sentence_lengths[:cut].sum(dtype=np.int64))
            total = int(staged.document_tokens[1])
            return Split("tail", [Part(0, cut, 0, token)], [Part(cut, sentences, token, total)])
    everything = _whole(staged, np.arange(staged.num_documents))
    smallest = np.flatnonzero(staged.document_hashes == unique[0])[:1]
    if fraction == 0 and len(unique) >= 8:
        smallest = np.flatnonzero(np.isin(staged.document_hashes, unique[: max(2, len(unique) // 50)]))
    return Split("copy", everything, _whole(staged, smallest))


def _whole(staged: Staged, documents: np.ndarray) -> list[Part]:
    sentences, tokens = staged.document_sentences.tolist(), staged.document_tokens.tolist()
    return [Part(sentences[d], sentences[d + 1], tokens[d], tokens[d + 1]) for d in documents.tolist()]
