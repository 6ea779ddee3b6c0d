"""A corpus of made-up documents and a tokenizer stand-in, for tests of what comes after the data."""

from types import SimpleNamespace

import numpy as np
import pytest

VOCABULARY = 200


@pytest.fixture(scope="session")
def synthetic():
    """(corpus, tokenizer): 60 documents of 3 to 20 sentences of 2 to 15 tokens."""
    random = np.random.default_rng(0)
    sentences = random.integers(3, 21, 60)
    lengths = random.integers(2, 16, sentences.sum())
    document_sentences = np.concatenate([[0], np.cumsum(sentences)])
    tokens_before = np.concatenate([[0], np.cumsum(lengths)])
    corpus = SimpleNamespace(
        tokens=random.integers(5, VOCABULARY, lengths.sum()).astype(np.uint16),
        sentence_lengths=lengths.astype(np.uint16),
        document_sentences=document_sentences.astype(np.int64),
        document_tokens=tokens_before[document_sentences].astype(np.int64),
        fingerprint="synthetic",
        num_documents=60,
        num_sentences=len(lengths),
        num_tokens=int(lengths.sum()),
    )
    tokenizer = SimpleNamespace(
        kind="wordpiece",
        vocab_size=VOCABULARY,
        pad_id=0,
        unk_id=1,
        cls_id=2,
        sep_id=3,
        mask_id=4,
        special_ids=(0, 1, 2, 3, 4),
        continues_word=lambda: np.zeros(VOCABULARY, bool),
    )
    return corpus, tokenizer
