from __future__ import annotations

import numpy as np
import pytest

from bertjax.data.stream.cursor import Cursor
from bertjax.data.stream.masking import TokenFacts
from bertjax.data.stream.pipeline import RowStream
from bertjax.data.stream.settings import ExampleSettings
from bertjax.objectives.registry import find_objective

MLM = find_objective("mlm").maker
NSP = find_objective("mlm_nsp").maker

CLS, SEP, MASK = 2, 3, 4


def epoch_batch(synthetic, corpus, settings, epoch=0, seed=0):
    """All rows of an epoch as one batch."""
    tokenizer = synthetic.tokenizer_of(corpus)
    stream = RowStream(corpus, TokenFacts.of(tokenizer), [settings], seed, 0)
    cursor = Cursor(epoch)
    rows = len(stream.plan(cursor))
    return stream.read(cursor, rows, np.arange(rows))[0][0]


@pytest.fixture(scope="module")
def corpus(synthetic):
    return synthetic.random_corpus(4, 1500)


@pytest.mark.parametrize("length,most", [(64, 10), (128, 20), (512, 77)])
def test_packed_quota(synthetic, corpus, length, most):
    settings = ExampleSettings(NSP, sequence_length=length, max_predictions=most)
    batch = epoch_batch(synthetic, corpus, settings)
    masked, tokens = batch["masked_lm_weights"].sum(1), (batch["example_ids"] > 0).sum(1)
    # In a row the cumulative length is rounded with a random offset: never more than one off.
    assert (np.abs(masked - 0.15 * tokens) < 1).all()
    assert masked.max() <= most
    assert masked.sum() / tokens.sum() == pytest.approx(0.15, abs=0.002)


def test_packed_quota_below_the_share_is_never_exceeded(synthetic, corpus):
    batch = epoch_batch(synthetic, corpus, ExampleSettings(NSP, sequence_length=128, max_predictions=5))
    assert batch["masked_lm_positions"].shape[1] == 5
    full = (batch["example_ids"] > 0).sum(1) > 100
    assert (batch["masked_lm_weights"].sum(1)[full] >= 4).all()


@pytest.mark.parametrize("whole_words", [False, True])
def test_unpacked_number_is_the_formula_of_2018(synthetic, corpus, whole_words):
    settings = ExampleSettings(NSP, max_examples_per_row=1, whole_word_masking=whole_words)
    batch = epoch_batch(synthetic, corpus, settings)
    masked, tokens = batch["masked_lm_weights"].sum(1), (batch["example_ids"] > 0).sum(1)
    wanted = [min(20, max(1, round(n * 0.15))) for n in tokens.tolist()]
    if whole_words:
        assert (masked <= wanted).all() and (masked == wanted).mean() > 0.9
    else:
        assert masked.tolist() == wanted


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("most", [1, 8])
def test_fields_of_the_masked(synthetic, corpus, most, whole_words):
    settings = ExampleSettings(NSP, max_examples_per_row=most, whole_word_masking=whole_words)
    batch = epoch_batch(synthetic, corpus, settings)
    positions, weights = batch["masked_lm_positions"], batch["masked_lm_weights"] > 0
    # Used slots first, positions ascending, unused slots empty.
    assert (np.diff(weights.astype(int), axis=1) <= 0).all()
    assert (np.diff(positions, axis=1)[weights[:, 1:]] > 0).all()
    assert not positions[~weights].any() and not batch["masked_lm_ids"][~weights].any()
    assert (batch["masked_lm_ids"][weights] > MASK).all()  # never a special token
    row, slot = np.nonzero(weights)
    assert (batch["example_ids"][row, positions[row, slot]] > 0).all()
    # 80 % [MASK], 10 % random, 10 % kept; a random token is hardly ever the token itself with so many ids.
    seen, original = batch["input_ids"][row, positions[row, slot]], batch["masked_lm_ids"][row, slot]
    assert (seen == MASK).mean() == pytest.approx(0.8, abs=0.01)
    assert (seen == original).mean() == pytest.approx(0.1, abs=0.01)
    assert (seen >= MASK).all()
    # Everything else is as it was: the text can be read back.
    assert len(synthetic.examples_of({name: field[:50] for name, field in batch.items()})) >= 50


@pytest.mark.parametrize("most", [1, 8])
def test_every_place_of_an_example_is_masked_alike(synthetic, most):
    corpus = synthetic.corpus([[20] * 300 for _ in range(40)])
    batch = epoch_batch(synthetic, corpus, ExampleSettings(NSP, max_examples_per_row=most))
    row, slot = np.nonzero(batch["masked_lm_weights"])
    places = batch["masked_lm_positions"][row, slot]
    maskable = (synthetic.original_ids(batch) > MASK).sum(0)
    share = np.bincount(places, minlength=128) / np.maximum(maskable, 1)
    inside = share[maskable > 0.5 * len(batch["input_ids"])]
    assert abs(inside - inside.mean()).max() < 6 * np.sqrt(0.15 / len(batch["input_ids"]))
    assert share[0] == 0


def test_whole_words_are_masked_together(synthetic, corpus):
    settings = ExampleSettings(NSP, whole_word_masking=True)
    batch = epoch_batch(synthetic, corpus, settings)
    ids = synthetic.original_ids(batch)
    masked = np.zeros(ids.shape, bool)
    row, slot = np.nonzero(batch["masked_lm_weights"])
    masked[row, batch["masked_lm_positions"][row, slot]] = True
    continues = synthetic.tokenizer_of(corpus).continues_word()[ids]
    text = ids > MASK
    joined = continues[:, 1:] & text[:, 1:] & text[:, :-1]
    assert joined.sum() > 1000
    assert (masked[:, 1:] == masked[:, :-1])[joined].all()
    assert (masked.sum(1) <= 20).all()
    assert masked.sum() / (batch["example_ids"] > 0).sum() == pytest.approx(0.15, abs=0.01)


def test_masks_are_made_afresh_every_epoch(synthetic):
    corpus = synthetic.corpus([[20]] * 50)
    settings = ExampleSettings(MLM, sequence_length=32, max_predictions=5)
    seen = []
    for epoch in (0, 1):
        batch = epoch_batch(synthetic, corpus, settings, epoch)
        order = np.argsort(synthetic.original_ids(batch)[:, 1])
        seen.append(batch["masked_lm_positions"][order])
    assert (seen[0] != seen[1]).any(axis=1).mean() > 0.9


def test_random_tokens_leave_out_the_special_ones(synthetic):
    facts = TokenFacts.of(synthetic.tokenizer(9))
    assert facts.replacements.tolist() == [5, 6, 7, 8]
    with pytest.raises(ValueError, match="special tokens"):
        TokenFacts.of(synthetic.tokenizer(5))
