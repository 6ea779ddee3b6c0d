"""The vectorised pairs against the plain loop of the original rules, both fed with the same draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.data.stream.blocks import read_block
from bertjax.data.stream.examples import pair_piece, split_runs
from bertjax.data.stream.hashing import Purpose, derive, draw
from bertjax.data.stream.settings import ExampleSettings
from bertjax.objectives.registry import find_objective

MLM = find_objective("mlm").maker
NSP = find_objective("mlm_nsp").maker


def make_examples(block, sentences, settings, seed, epoch):
    return settings.maker.make(block, sentences, settings, seed, epoch)


def split_block(block, sentences, settings):
    return settings.maker.split(block, sentences, settings)


documents_strategy = st.lists(st.lists(st.integers(1, 70), min_size=1, max_size=14), min_size=2, max_size=8)


def bits(purpose: Purpose, seed: int, epoch: int, counter: int) -> tuple[int, int]:
    value = int(draw(derive(seed, purpose, epoch), np.array([counter]))[0])
    return value >> 32, value & 0xFFFFFFFF


def pick(bits32: int, bound: int) -> int:
    return bits32 * bound >> 32


def plain_pairs(documents: list[list[tuple[int, int]]], pool, settings: ExampleSettings, seed: int, epoch: int):
    """A loop over documents, sentences and tokens in the manner of 2018. A sentence is (first token, tokens)."""
    found = []
    room = settings.sequence_length - 3
    for number, document in enumerate(documents):
        short, length = bits(Purpose.TARGET_LENGTH, seed, epoch, document[0][0])
        target = 2 + pick(length, room - 1) if short < settings.short_seq_prob * 2**32 else room
        chunk, chunk_length, i = [], 0, 0
        while i < len(document):
            chunk.append(document[i])
            chunk_length += document[i][1]
            if i == len(document) - 1 or chunk_length >= target:
                cut_bits, toss = bits(Purpose.PAIR, seed, epoch, chunk[0][0])
                a_end = 1 + pick(cut_bits, len(chunk) - 1) if len(chunk) >= 2 else 1
                a = [start + k for start, size in chunk[:a_end] for k in range(size)]
                b, is_random = [], len(chunk) == 1 or toss < 2**31
                if is_random:
                    target_b = target - len(a)
                    document_bits, sentence_bits = bits(Purpose.RANDOM_DOCUMENT, seed, epoch, chunk[0][0])
                    other = pick(document_bits, len(pool) - 1)
                    other += other >= number
                    for start, size in pool[other][pick(sentence_bits, len(pool[other])) :]:
                        b += range(start, start + size)
                        if len(b) >= target_b:
                            break
                    i -= len(chunk) - a_end
                else:
                    b = [start + k for start, size in chunk[a_end:] for k in range(size)]
                tosses = {id(a): tossing(Purpose.TRUNCATE_A, seed, epoch, chunk[0][0])}
                tosses[id(b)] = tossing(Purpose.TRUNCATE_B, seed, epoch, chunk[0][0])
                while len(a) + len(b) > room:
                    longer = a if len(a) > len(b) else b
                    if next(tosses[id(longer)]):
                        del longer[0]
                    else:
                        longer.pop()
                found.append((a, b, is_random))
                chunk, chunk_length = [], 0
            i += 1
    return found


def tossing(purpose: Purpose, seed: int, epoch: int, counter: int):
    word = 0
    while True:
        key = derive(derive(derive(seed, epoch), purpose), word)
        value = int(draw(key, np.array([counter]))[0])
        for place in range(64):
            yield value >> place & 1
        word += 1


def documents_of(sentences, count: int) -> list[list[tuple[int, int]]]:
    table: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for start, size, document in zip(sentences.start, sentences.length, sentences.document, strict=True):
        table[document].append((int(start), int(size)))
    return table


def spans(examples) -> list[tuple[list[int], list[int], bool]]:
    columns = (examples.a_start, examples.a_length, examples.b_start, examples.b_length, examples.is_random)
    return [
        (list(range(a, a + m)), list(range(b, b + n)), bool(random))
        for a, m, b, n, random in zip(*(column.tolist() for column in columns), strict=True)
    ]


@given(
    documents=documents_strategy,
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 50),
    length=st.sampled_from([8, 16, 64, 128]),
    short=st.sampled_from([0.0, 0.1, 1.0]),
)
@settings(max_examples=120, deadline=None)
def test_equal_to_the_plain_loop(synthetic, documents, seed, epoch, length, short):
    chosen = ExampleSettings(NSP, sequence_length=length, short_seq_prob=short)
    block = read_block(synthetic.corpus(documents), 10**9, seed, epoch, 0)
    table = documents_of(block.sentences, len(documents))
    examples = make_examples(block, block.sentences, chosen, seed, epoch)
    assert spans(examples) == plain_pairs(table, table, chosen, seed, epoch)


def test_equal_to_the_plain_loop_where_hundreds_of_tokens_are_dropped(synthetic):
    chosen = ExampleSettings(NSP, sequence_length=32)
    for seed in range(20):
        block = read_block(synthetic.corpus([[700, 300, 2], [500, 500], [900]]), 10**9, seed, 0, 0)
        table = documents_of(block.sentences, 3)
        assert spans(make_examples(block, block.sentences, chosen, seed, 0)) == plain_pairs(
            table, table, chosen, seed, 0
        )


@given(documents=documents_strategy, seed=st.integers(0, 10**6), objective=st.sampled_from(["mlm", "mlm_nsp"]))
@settings(max_examples=60, deadline=None)
def test_every_sentence_is_used_by_one_example(synthetic, documents, seed, objective):
    chosen = ExampleSettings(find_objective(objective).maker, sequence_length=32)
    block = read_block(synthetic.corpus(documents), 10**9, seed, 0, 0)
    block, sentences = split_block(block, block.sentences, chosen)
    examples = make_examples(block, sentences, chosen, seed, 0)
    used = np.concatenate(
        [np.arange(*span) for span in zip(examples.first_sentence, examples.next_sentence, strict=True)]
    )
    assert np.array_equal(used, np.arange(len(sentences)))
    assert (examples.a_length >= 1).all()
    assert (examples.a_length + examples.b_length <= chosen.room).all()


def test_a_random_text_is_of_another_document_and_a_true_one_follows(synthetic):
    corpus = synthetic.random_corpus(1, 30)
    block = read_block(corpus, 10**9, 0, 0, 0)
    examples = make_examples(block, block.sentences, ExampleSettings(NSP, sequence_length=512), 0, 0)
    a_document = np.searchsorted(corpus.document_tokens, examples.a_start, side="right")
    b_document = np.searchsorted(corpus.document_tokens, examples.b_start, side="right")
    assert ((a_document == b_document) == ~examples.is_random).all()
    assert (examples.b_length >= 1).all()


def test_share_of_random_next_sentences(synthetic):
    # Half of the chunks of several sentences; those of one sentence are always random.
    corpus = synthetic.random_corpus(2, 3000, longest=20, sentences=60)
    block = read_block(corpus, 10**9, 0, 0, 0)
    examples = make_examples(block, block.sentences, ExampleSettings(NSP, short_seq_prob=0.0), 0, 0)
    assert 0.5 < examples.is_random.mean() < 0.58


def test_target_length_is_drawn_once_a_document(synthetic):
    corpus = synthetic.corpus([[1] * 2000 for _ in range(400)])
    block = read_block(corpus, 10**9, 0, 0, 0)
    chosen = ExampleSettings(NSP, sequence_length=128, short_seq_prob=0.25)
    examples = make_examples(block, block.sentences, chosen, 0, 0)
    document = block.sentences.document[examples.first_sentence]
    total = examples.a_length + examples.b_length
    longest = np.array([total[document == number].max() for number in range(400)])
    assert abs((longest < 125).mean() - 0.25) < 0.06
    # With sentences of one token all but the last chunk of a document are of the target length exactly.
    middle = np.flatnonzero(document[:-1] == document[1:])
    not_short_of_text = total[middle] == longest[document[middle]]
    assert not_short_of_text.mean() > 0.85


def test_long_sentences_are_split_and_lose_nothing(synthetic):
    chosen = ExampleSettings(MLM, sequence_length=16, short_seq_prob=0.0)
    block = read_block(synthetic.corpus([[50, 3]]), 10**9, 0, 0, 0)
    _, sentences = split_runs(block, block.sentences, chosen)
    assert sentences.length.tolist() == [14, 14, 14, 8, 3]
    examples = make_examples(block, sentences, chosen, 0, 0)
    assert examples.a_length.tolist() == [14, 14, 14, 11]
    assert not examples.b_length.any() and not examples.is_random.any()


def planned(synthetic, documents, chosen, seed=0):
    """(examples, sentences or pieces that they are made of) of all documents."""
    table = read_block(synthetic.corpus(documents), 10**9, seed, 0, 0)
    block, sentences = split_block(table, table.sentences, chosen)
    return make_examples(block, sentences, chosen, seed, 0), sentences


def shown(examples) -> int:
    """Tokens in an A or in a real next B."""
    return int(examples.a_length.sum() + examples.b_length[~examples.is_random].sum())


@pytest.mark.parametrize("length", [64, 128, 512])
def test_sentences_that_are_too_long_for_a_pair_are_shown_as_a_whole(synthetic, length):
    random = np.random.RandomState(length)
    documents = [random.randint(1, 20 * length, random.randint(1, 5)).tolist() for _ in range(100)]
    examples, sentences = planned(synthetic, documents, ExampleSettings(NSP, sequence_length=length))
    assert sentences.length.sum() == sum(map(sum, documents))
    assert shown(examples) > 0.95 * sentences.length.sum()
    assert 0.5 < examples.is_random.mean() < 0.6
    before, _ = planned(synthetic, documents, ExampleSettings(NSP, sequence_length=length, order=1))
    assert shown(before) < 0.2 * sentences.length.sum()


def test_a_document_of_one_long_sentence_has_real_next_ones(synthetic):
    """As one of DNA: pieces of it follow each other, so that A is followed by what stands there."""
    examples, _ = planned(synthetic, [[5000]] * 20, ExampleSettings(NSP, short_seq_prob=0.0))
    real = ~examples.is_random
    assert real.sum() > 200
    follows = examples.b_start - (examples.a_start + examples.a_length)
    # 63 and 63 of 125: one token is truncated. At the end a piece of 63 and two of 43 are one pair.
    assert (follows[real] <= 1).mean() > 0.95 and follows[real].min() == 0 and follows[real].max() <= 24


@given(documents=documents_strategy, seed=st.integers(0, 1000), length=st.sampled_from([8, 9, 16, 64, 128]))
@settings(max_examples=60, deadline=None)
def test_sentences_that_fit_are_paired_as_in_2018(synthetic, documents, seed, length):
    """Only what is longer than a pair has room for is split, and nothing is lost or repeated by that."""
    chosen = ExampleSettings(NSP, sequence_length=length)
    documents = [[min(n, chosen.room) for n in document] for document in documents]
    new, sentences = planned(synthetic, documents, chosen, seed)
    old, whole = planned(synthetic, documents, replace(chosen, order=1), seed)
    assert len(sentences) == len(whole) and spans(new) == spans(old)


def tokens_of(table):
    return [
        (document, token)
        for start, n, document in zip(table.start, table.length, table.document, strict=True)
        for token in range(start, start + n)
    ]


@given(documents=documents_strategy, length=st.integers(8, 80), objective=st.sampled_from(["mlm", "mlm_nsp"]))
@settings(max_examples=60, deadline=None)
def test_pieces_are_the_tokens_of_their_sentences(synthetic, documents, length, objective):
    chosen = ExampleSettings(find_objective(objective).maker, sequence_length=length)
    block = read_block(synthetic.corpus(documents), 10**9, 0, 0, 0)
    split, found = split_block(block, block.sentences, chosen)
    assert tokens_of(found) == tokens_of(block.sentences)
    expected = []
    for n in block.sentences.length.tolist():
        if n <= chosen.room:
            expected.append(n)
        elif objective == "mlm":
            expected += [chosen.room] * (n // chosen.room) + [n % chosen.room] * (n % chosen.room > 0)
        else:  # the last two share what is left
            whole = -(-n // pair_piece(chosen.room)) - 2
            left = n - whole * pair_piece(chosen.room)
            expected += [pair_piece(chosen.room)] * whole + [-(-left // 2), left // 2]
    assert found.length.tolist() == expected
    assert split.pool_bounds[-1] == len(split.pool)
    assert tokens_of(split.pool) == tokens_of(block.pool)


def test_random_texts_are_drawn_from_pieces_too(synthetic):
    examples, _ = planned(synthetic, [[4000]] * 10, ExampleSettings(NSP, short_seq_prob=0.0))
    randoms = examples.b_start[examples.is_random] % 4000
    # 62 of 63, and two that share what is left, with at most some tokens truncated at the front.
    begins = np.array([*range(0, 63 * 62, 63), 3906 - 63 + 63 + 47])
    assert (np.min(np.abs(randoms[:, None] - begins[None, :]), axis=1) <= 2).mean() > 0.9


def test_one_document_draws_random_texts_from_itself(synthetic):
    block = read_block(synthetic.corpus([[5, 6, 7]]), 10**9, 0, 0, 0)
    examples = make_examples(block, block.sentences, ExampleSettings(NSP), 0, 0)
    assert (examples.b_length >= 1).all()
