from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.data.stream.blocks import block_documents, num_blocks, read_block


@given(documents=st.integers(1, 90), block_tokens=st.integers(50, 20_000), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_every_document_is_in_one_block_of_an_epoch(synthetic, documents, block_tokens, seed):
    corpus = synthetic.random_corpus(documents, documents)
    blocks = num_blocks(corpus, block_tokens)
    seen, sizes = [], []
    for block in range(blocks):
        chosen, own = block_documents(corpus, block_tokens, seed, 3, block)
        seen += chosen[:own].tolist()
        sizes.append(own)
        assert len(set(chosen.tolist())) == len(chosen) >= min(documents, 16)
    assert sorted(seen) == list(range(documents))
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1


def test_the_table_says_where_sentences_stand(synthetic):
    corpus = synthetic.random_corpus(0, 40)
    ends = np.cumsum(corpus.sentence_lengths.astype(int))
    starts = ends - corpus.sentence_lengths
    blocks = num_blocks(corpus, 2000)
    assert blocks > 2
    found = []
    for block in range(blocks):
        table = read_block(corpus, 2000, 1, 0, block)
        found += list(zip(table.sentences.start.tolist(), table.sentences.length.tolist(), strict=True))
        documents, own = block_documents(corpus, 2000, 1, 0, block)
        for place, document in enumerate(documents):
            low, high = corpus.document_sentences[document : document + 2]
            part = table.pool.select(slice(table.pool_bounds[place], table.pool_bounds[place + 1]))
            assert np.array_equal(part.start, starts[low:high])
            assert np.array_equal(part.length, corpus.sentence_lengths[low:high])
            assert (part.document == place).all()
        assert len(table.sentences) == table.pool_bounds[own]
        assert table.sentences.first_of_fragment().sum() == own
    assert sorted(found) == list(zip(starts.tolist(), corpus.sentence_lengths.tolist(), strict=True))


def test_epochs_differ_in_order(synthetic):
    corpus = synthetic.random_corpus(0, 40)
    orders = [block_documents(corpus, 10**9, 1, epoch, 0)[0].tolist() for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
