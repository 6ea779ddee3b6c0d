"""Small corpora whose tokens tell where they stand, and a way to read examples back out of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from bertjax.text.word_boundaries import WordBoundaries

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
FIRST_TOKEN = 5


@dataclass(frozen=True)
class TableCorpus:
    """The attributes of bertjax.data.corpus.prepared.Corpus; token number i of the corpus has the id 5 + i."""

    tokens: np.ndarray
    sentence_lengths: np.ndarray
    document_sentences: np.ndarray
    document_tokens: np.ndarray
    fingerprint: str = "synthetic"

    @property
    def num_documents(self) -> int:
        return len(self.document_sentences) - 1

    @property
    def num_sentences(self) -> int:
        return len(self.sentence_lengths)

    @property
    def num_tokens(self) -> int:
        return int(self.document_tokens[-1])


class NumberTokenizer:
    """As many ids as the corpus has tokens; every third one continues the word before it."""

    pad_id, unk_id, cls_id, sep_id, mask_id = PAD, UNKNOWN, CLS, SEP, MASK
    special_ids = (PAD, UNKNOWN, CLS, SEP, MASK)

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def continues_word(self) -> np.ndarray:
        return np.arange(self.vocab_size) % 3 == 0

    def word_boundaries(self) -> WordBoundaries:
        return WordBoundaries(~self.continues_word(), np.zeros(self.vocab_size, bool))


def make_corpus(documents: list[list[int]]) -> TableCorpus:
    """A corpus from the sentence lengths of its documents."""
    lengths = np.array([length for document in documents for length in document], np.uint16)
    sentences = np.concatenate(([0], np.cumsum([len(document) for document in documents]))).astype(np.int64)
    ends = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    tokens = np.arange(FIRST_TOKEN, FIRST_TOKEN + ends[-1], dtype=np.uint32)
    return TableCorpus(tokens, lengths, sentences, ends[sentences])


def random_corpus(seed: int, documents: int, longest: int = 60, sentences: int = 20) -> TableCorpus:
    state = np.random.RandomState(seed)
    return make_corpus([state.randint(1, longest, state.randint(1, sentences)).tolist() for _ in range(documents)])


def original_ids(batch: dict[str, np.ndarray]) -> np.ndarray:
    """input_ids with the masked tokens put back."""
    ids = batch["input_ids"].copy()
    row, slot = np.nonzero(batch["masked_lm_weights"])
    ids[row, batch["masked_lm_positions"][row, slot]] = batch["masked_lm_ids"][row, slot]
    return ids


def examples_of(batch: dict[str, np.ndarray]) -> list[tuple[list[int], list[int], int]]:
    """(A, B, label) of every example: token positions in the corpus. Checks the form [CLS] A [SEP] B [SEP]."""
    found = []
    ids = original_ids(batch)
    for row in range(len(ids)):
        for number in range(1, int(batch["example_ids"][row].max(initial=0)) + 1):
            (places,) = np.nonzero(batch["example_ids"][row] == number)
            assert places[0] == batch["cls_positions"][row, number - 1]
            assert np.array_equal(places, np.arange(places[0], places[0] + len(places)))
            text, kind = ids[row, places], batch["token_type_ids"][row, places]
            separators = np.flatnonzero(text == SEP)
            assert text[0] == CLS and text[-1] == SEP and (text == CLS).sum() == 1
            cut = separators[0]
            assert not kind[: cut + 1].any() and kind[cut + 1 :].all()
            a, b = text[1:cut], text[cut + 1 : -1]
            assert (np.diff(a) == 1).all() and (np.diff(b) == 1).all()
            label = int(batch["next_sentence_labels"][row, number - 1])
            found.append(((a - FIRST_TOKEN).tolist(), (b - FIRST_TOKEN).tolist(), label))
    return found


class Synthetic:
    """What the tests of this folder share, as one fixture: they are no package and cannot import each other."""

    corpus = staticmethod(make_corpus)
    random_corpus = staticmethod(random_corpus)
    tokenizer = NumberTokenizer
    original_ids = staticmethod(original_ids)
    examples_of = staticmethod(examples_of)
    first_token = FIRST_TOKEN

    @staticmethod
    def tokenizer_of(corpus: TableCorpus) -> NumberTokenizer:
        return NumberTokenizer(corpus.num_tokens + FIRST_TOKEN)


@pytest.fixture(scope="session")
def synthetic() -> type[Synthetic]:
    return Synthetic
