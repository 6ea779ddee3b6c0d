"""The examples of 2018 through the whole pipeline, packing off: statistics of what the model is fed with.

Every rule is held against create_pretraining_data.py of google-research/bert, whose function the test names. The
parts have tests of their own: test_pairs.py holds the pairs to a plain loop of the original rules, draw by draw;
test_masking.py holds masks, packed or not, to shares and fields. Here are the distributions that they leave out.
Bounds are four standard deviations; the seed is fixed, so that no test fails by chance.

What bertjax does differently, packing on or off: masks and pairs are made afresh every epoch (there once for each of
dupe_factor copies); a random token is never a special one (there any entry of the vocabulary but the last); a random
text is of another document of the block (there of the input file, which after ten tries may be the same document).

What packing (data.packing, on in the shipped configs) changes of this recipe: a row holds several pairs, each with
positions from 0 on and out of the others' sight; batch_size counts rows, so that a batch has more pairs and less
padding; and the number of masked tokens is rounded over the row instead of the pair: each pair's expectation is
.15 of its length, but a short one may have no mask at all, where the original has at least one.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from bertjax.data.stream.pipeline import open_batches
from bertjax.data.stream.settings import ExampleSettings
from bertjax.objectives.registry import find_objective

NSP = find_objective("mlm_nsp").maker

SEP, MASK = 3, 4
SENTENCE = 20  # tokens, where all sentences are of one length
LEAST_P = 1e-4  # of a chi-square test that passes: four standard deviations


def one_epoch(synthetic, corpus, settings):
    """All rows of the first epoch as one batch."""
    read = []
    with open_batches(corpus, synthetic.tokenizer_of(corpus), [settings], 0, 0, 256, prefetch=0) as batches:
        while not read or read[-1][1].epoch == 0:
            read.append(next(batches))
    cursor = read[-1][1]
    assert cursor.block == 0, "more than the rest of a batch has been read of the second epoch"
    rows = 256 * len(read) - cursor.row
    return {name: np.concatenate([batch[name] for batch, _ in read])[:rows] for name in read[0][0]}


def within_four_sigma(hits, trials, share):
    return abs(hits - trials * share) <= 4 * np.sqrt(trials * share * (1 - share))


def masked(batch):
    """Of every masked token: row, position, what stands there now, what stood there."""
    row, slot = np.nonzero(batch["masked_lm_weights"])
    place = batch["masked_lm_positions"][row, slot]
    return row, place, batch["input_ids"][row, place], batch["masked_lm_ids"][row, slot]


@pytest.fixture(scope="module")
def mixed(synthetic):
    """3,000 documents of 1 to 19 sentences of 1 to 59 tokens."""
    return synthetic.random_corpus(5, 3000)


@pytest.fixture(scope="module", params=[(128, 20), (512, 77)], ids=["128", "512"])
def rows(request, synthetic, mixed):
    length, most = request.param
    settings = ExampleSettings(NSP, sequence_length=length, max_predictions=most, max_examples_per_row=1)
    return settings, one_epoch(synthetic, mixed, settings)


# --- Masks: create_masked_lm_predictions ----------------------------------------------------------------------------


def test_number_of_masked_tokens(rows):
    """min(max_predictions_per_seq, max(1, int(round(len(tokens) * masked_lm_prob)))), specials among the tokens."""
    settings, batch = rows
    length = (batch["example_ids"] > 0).sum(1)
    wanted = [min(settings.max_predictions, max(1, round(n * 0.15))) for n in length.tolist()]
    assert batch["masked_lm_weights"].sum(1).tolist() == wanted
    # The published 20 and 77 leave room for 15 % of a full row, 19 and 77.
    assert (min(wanted), max(wanted)) == (1, round(0.15 * settings.sequence_length))


def test_no_more_are_masked_than_there_is_room_for(synthetic, mixed):
    batch = one_epoch(synthetic, mixed, ExampleSettings(NSP, max_predictions=12, max_examples_per_row=1))
    length = (batch["example_ids"] > 0).sum(1)
    assert batch["masked_lm_weights"].sum(1).tolist() == [min(12, max(1, round(n * 0.15))) for n in length.tolist()]


def test_80_10_10(rows, mixed):
    """rng.random() < .8: [MASK]; else < .5: the token itself; else a token of the vocabulary."""
    _, _, seen, original = masked(rows[1])
    assert len(seen) > 30_000
    assert within_four_sigma((seen == MASK).sum(), len(seen), 0.8)
    # A random token is now and then the token itself.
    assert within_four_sigma((seen == original).sum(), len(seen), 0.1 + 0.1 / mixed.num_tokens)


def test_special_tokens_are_never_masked(rows, synthetic):
    """``if token == "[CLS]" or token == "[SEP]": continue``."""
    _, batch = rows
    row, place, _, original = masked(batch)
    assert (original > MASK).all()
    length = (batch["example_ids"] > 0).sum(1)
    assert (place > 0).all() and (place < length[row] - 1).all()
    ids = batch["input_ids"]
    assert (ids[:, 0] == 2).all() and (ids[np.arange(len(ids)), length - 1] == SEP).all()
    assert ((ids == SEP).sum(1) == 2).all()
    assert len(synthetic.examples_of(batch)) == len(ids)  # [CLS] A [SEP] B [SEP], token types 0 and 1


def test_random_tokens_are_spread_over_the_vocabulary(rows, synthetic, mixed):
    """vocab_words[rng.randint(0, len(vocab_words) - 1)]: each alike, whatever the token they stand for."""
    _, _, seen, original = masked(rows[1])
    random = seen[(seen != MASK) & (seen != original)] - synthetic.first_token
    counts, _ = np.histogram(random, bins=50, range=(0, mixed.num_tokens))
    assert counts.min() > 20
    assert chisquare(counts).pvalue > LEAST_P


# --- Pairs: create_instances_from_document ----------------------------------------------------------------------------


def test_a_row_is_one_pair(rows):
    """Token types 0 for [CLS] A [SEP], 1 for B [SEP], 0 in the padding; positions count through."""
    settings, batch = rows
    length = (batch["example_ids"] > 0).sum(1)
    inside = np.arange(settings.sequence_length)[None, :] < length[:, None]
    assert (batch["example_ids"] == inside).all()
    assert (batch["next_sentence_weights"] == 1).all() and batch["next_sentence_weights"].shape[1] == 1
    assert (
        batch["position_ids"][inside] == np.broadcast_to(np.arange(settings.sequence_length), inside.shape)[inside]
    ).all()
    assert not batch["token_type_ids"][~inside].any()
    a_length = (inside & (batch["token_type_ids"] == 0)).sum(1)
    assert (a_length >= 3).all() and (length - a_length >= 2).all()


def test_short_sequences(synthetic):
    """With short_seq_prob target_seq_length = rng.randint(2, max_num_tokens), both ends in; else max_num_tokens."""
    documents, room = 2000, 61
    corpus = synthetic.corpus([[1] * 300 for _ in range(documents)])
    settings = ExampleSettings(NSP, sequence_length=64, max_predictions=10, max_examples_per_row=1)
    batch = one_epoch(synthetic, corpus, settings)
    # Sentences of one token: a true pair that is not the document's last has its target length exactly.
    longest = np.zeros(documents, int)
    for a, b, label in synthetic.examples_of(batch):
        if not label:
            longest[a[0] // 300] = max(longest[a[0] // 300], len(a) + len(b))
    longest = longest[longest > 0]  # not all of a document's pairs are random, but for one in ten thousand
    assert len(longest) > 0.98 * documents
    assert longest.max() == room
    short = longest[longest < room]
    assert within_four_sigma(len(short), len(longest), 0.1 * (room - 2) / (room - 1))
    assert short.min() == 2 and short.max() == room - 1
    counts, _ = np.histogram(short, bins=[2, 11, 21, 31, 41, 51, 61])
    assert chisquare(counts, len(short) * np.array([9, 10, 10, 10, 10, 10]) / 59).pvalue > LEAST_P


@pytest.fixture(scope="module")
def regular(synthetic):
    """(examples, sentences of each document, first sentence of each): 3,000 documents of 1 to 30 sentences of 20."""
    count = np.random.RandomState(6).randint(1, 31, 3000)
    corpus = synthetic.corpus([[SENTENCE] * n for n in count.tolist()])
    settings = ExampleSettings(NSP, max_examples_per_row=1, short_seq_prob=0.0)
    return synthetic.examples_of(one_epoch(synthetic, corpus, settings)), count, np.cumsum(count) - count


def document_of(token, first):
    return int(np.searchsorted(first, token // SENTENCE, side="right")) - 1


def test_true_pairs_go_on_where_a_ends_and_random_ones_lie_elsewhere(regular):
    """Label 0: B is what follows A in its document; label 1: B is of another document, from any sentence on."""
    examples, count, first = regular
    depth, variance, randoms = 0.0, 0.0, 0
    for a, b, label in examples:
        here, there = document_of(a[0], first), document_of(b[0], first)
        assert document_of(a[-1], first) == here and document_of(b[-1], first) == there
        if label:
            assert here != there
            depth += b[0] // SENTENCE - first[there] - (count[there] - 1) / 2
            variance += (count[there] ** 2 - 1) / 12
            randoms += 1
        elif len(a) + len(b) < 125:
            assert b[0] == a[-1] + 1
        else:  # truncated at most by what the last sentence is too long
            assert here == there and 1 <= b[0] - a[-1] <= SENTENCE
    assert randoms > 3000
    assert abs(depth) < 4 * np.sqrt(variance)


def test_share_of_random_pairs(regular):
    """``len(current_chunk) == 1 or rng.random() < 0.5``: here a chunk of one sentence is the last of a document."""
    examples, count, first = regular
    labels = np.array([label for _, _, label in examples])
    start = np.array([a[0] // SENTENCE for a, _, _ in examples])
    last = np.isin(start, first + count - 1)
    assert last.sum() > 500 and labels[last].all()
    assert within_four_sigma(labels[~last].sum(), (~last).sum(), 0.5)
    assert labels.mean() == pytest.approx(0.5 + 0.5 * last.mean(), abs=2 / np.sqrt(len(labels)))
    assert labels.mean() > 0.5


def test_a_ends_after_any_sentence_but_the_last(regular):
    """a_end = rng.randint(1, len(current_chunk) - 1): seven sentences of 20 reach 125 tokens, so one to six."""
    examples, _, _ = regular
    full = [(a, b) for a, b, label in examples if not label and b[-1] // SENTENCE - a[0] // SENTENCE == 6]
    assert len(full) > 2000
    ends = np.bincount([a[-1] // SENTENCE - a[0] // SENTENCE for a, _ in full], minlength=6)
    assert len(ends) == 6
    assert chisquare(ends).pvalue > LEAST_P


def test_tokens_are_dropped_at_front_and_back_alike(regular):
    """truncate_seq_pair: one token at a time from the longer of the two, at the front with rng.random() < .5."""
    examples, _, _ = regular
    full = [(a, b) for a, b, label in examples if not label and b[-1] // SENTENCE - a[0] // SENTENCE == 6]
    assert all(len(a) + len(b) == 125 for a, b in full)
    front = sum(a[0] % SENTENCE + b[0] % SENTENCE for a, b in full)
    assert within_four_sigma(front, 15 * len(full), 0.5)
    # 15 tokens of the longer side; where three sentences face four, these lose them all, too.
    for a, b in full:
        whole_a = SENTENCE * (a[-1] // SENTENCE - a[0] // SENTENCE + 1)
        assert (len(a), len(b)) == ((whole_a - 15, 140 - whole_a) if whole_a > 70 else (whole_a, 125 - whole_a))
