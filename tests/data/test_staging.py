from __future__ import annotations

import numpy as np

from bertjax.data.corpus.staging import read_spool, split, spooled, token_dtype, tokenize
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceTokenizer


def test_the_smallest_integers():
    assert token_dtype(65536) == np.uint16 and token_dtype(65537) == np.uint32


def test_sentences_and_documents_without_tokens_are_left_out(tmp_path):
    tokenizer = WordPieceTokenizer([*WORDPIECE_SPECIALS, "a", "b"])
    staged = tokenize([["a b", "\u200b"], ["\u200b"], ["b"]], tokenizer, tmp_path)
    assert staged.sentence_lengths.tolist() == [2, 1]
    assert staged.document_sentences.tolist() == [0, 1, 2] and staged.document_tokens.tolist() == [0, 2, 3]
    assert split(staged, 0.5)[0] == "documents"


def test_the_spool_keeps_documents(tmp_path):
    given = [["One.", "Two \r three."], ["é\u2028漢"], ["Last."]]
    assert list(spooled(given, tmp_path / "spool")) == given
    assert list(read_spool(tmp_path / "spool")) == given
