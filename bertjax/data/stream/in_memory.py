"""A corpus in memory, straight from texts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bertjax.data.corpus.arrays import Corpus
from bertjax.data.corpus.staging import tokenize
from bertjax.text.sentences import split_sentences
from bertjax.text.tokenizer import Tokenizer


def corpus_of(texts: Sequence[str], tokenizer: Tokenizer) -> Corpus:
    """The texts, tokenised, one document each, without those that have no tokens."""
    return corpus_of_documents((sentences for text in texts if (sentences := split_sentences(text))), tokenizer)


def corpus_of_documents(documents: Iterable[list[str]], tokenizer: Tokenizer) -> Corpus:
    """Documents given as lists of sentences, tokenised, without those that have no tokens."""
    with tempfile.TemporaryDirectory() as folder:
        staged = tokenize(documents, tokenizer, Path(folder))
        names = ("tokens", "sentence_lengths", "document_sentences", "document_tokens")
        words = None if staged.word_starts is None else np.packbits(staged.word_starts, bitorder="little")
        arrays = (np.array(getattr(staged, name)) for name in names)
        return Corpus(*arrays, fingerprint="in memory", word_starts=words)
