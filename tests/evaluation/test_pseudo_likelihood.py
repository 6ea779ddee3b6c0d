"""Pseudo-log-likelihoods, against the same thing computed in the plainest way."""

import jax
import numpy as np
import pytest

from bertjax.evaluation import blimp_suite
from bertjax.evaluation.blimp_suite import MaskedRows, pseudo_log_likelihoods, worth_a_shape
from bertjax.model.create import model_config

LENGTHS = [1, 3, 3, 5, 21, 38, 1]


@pytest.fixture(scope="module")
def sentences(tokenizer):
    random = np.random.default_rng(0)
    return [random.integers(5, tokenizer.vocab_size, length).tolist() for length in LENGTHS]


@pytest.fixture(scope="module")
def one_by_one(model, tokenizer, sentences):
    """A forward pass without any padding for each sentence and position."""
    sums = []
    for sentence in sentences:
        row = [tokenizer.cls_id, *sentence, tokenizer.sep_id]
        total = 0.0
        for position in range(1, len(row) - 1):
            masked = [*row[:position], tokenizer.mask_id, *row[position + 1 :]]
            logits = np.asarray(model([masked]).mlm_logits[0, position], np.float64)
            total += logits[row[position]] - np.log(np.exp(logits).sum())
        sums.append(total)
    return np.array(sums)


@pytest.mark.parametrize("batch_tokens", [1, 100, 4096])
@pytest.mark.parametrize("worth", [1, 10**9])
def test_batched_is_one_by_one(model, tokenizer, sentences, one_by_one, batch_tokens, worth, monkeypatch):
    """In as many row lengths as there are or in one, in batches of a single row and in one for all."""
    monkeypatch.setattr(blimp_suite, "worth_a_shape", lambda config: worth)
    found = pseudo_log_likelihoods(model, tokenizer, sentences, batch_tokens=batch_tokens)
    np.testing.assert_allclose(found, one_by_one, atol=1e-4, rtol=0)


def test_equal_sentences_have_equal_scores_to_the_bit(model, tokenizer, sentences):
    found = pseudo_log_likelihoods(model, tokenizer, [*sentences, *sentences[::-1]], batch_tokens=64)
    np.testing.assert_array_equal(found[: len(sentences)], found[len(sentences) :][::-1])


def test_every_token_is_masked_once(tokenizer, sentences):
    rows = MaskedRows(sentences, tokenizer)
    seen = set()
    for chosen, length, size in rows.batches(64, 1):
        batch = rows.assemble(chosen, length, size)
        assert batch["input_ids"].shape == (size, length)
        for row in range(len(chosen)):
            ids, position = batch["input_ids"][row].copy(), batch["masked_lm_positions"][row, 0]
            assert ids[position] == tokenizer.mask_id
            ids[position] = batch["targets"][row]
            used = ids[: batch["attention_mask"][row].sum()].tolist()
            assert used[0] == tokenizer.cls_id and used[-1] == tokenizer.sep_id and used[1:-1] in sentences
            assert set(ids[len(used) :]) <= {tokenizer.pad_id}
            seen.add((tuple(used[1:-1]), int(position)))
    unique = {tuple(sentence) for sentence in sentences}
    assert seen == {(sentence, position) for sentence in unique for position in range(1, len(sentence) + 1)}


def test_all_batches_but_the_last_are_full(tokenizer, sentences):
    *others, (chosen, length, size) = MaskedRows(sentences, tokenizer).batches(64, 1)
    assert all(len(c) == s and s * n <= 64 for c, n, s in others)
    assert len(chosen) <= size and length == max(LENGTHS) + 2


def test_a_larger_model_has_more_shapes():
    base, tiny = (worth_a_shape(model_config(preset, {})) for preset in ("bert-base", "bert-tiny"))
    assert 500 < base < 5_000 and 50_000 < tiny < 500_000  # tokens of padding


def test_few_programs_are_compiled(model, tokenizer, sentences):
    blimp_suite._log_probs.clear_cache()
    pseudo_log_likelihoods(model, tokenizer, sentences * 3, batch_tokens=64)
    assert blimp_suite._log_probs._cache_size() == 1  # so little text is worth one


def test_the_vocabulary_product_is_of_one_position(model, tokenizer):
    """The largest array that the program makes has a row of the vocabulary for each sentence, not for each token."""
    from bertjax.model.bert import split_params

    rows = MaskedRows([list(range(5, 35))], tokenizer)
    batch = rows.assemble(np.arange(16), 32, 16)
    graphdef, params = split_params(model)
    program = jax.make_jaxpr(blimp_suite._log_probs, static_argnums=0)(graphdef, params, batch)
    vocabulary = params["mlm_head"]["bias"].shape[0]
    shapes = [tuple(v.aval.shape) for e in _equations(program.jaxpr) for v in e.outvars]
    assert (
        max(np.prod(shape[:-1]) for shape in shapes if shape and shape[-1] == vocabulary) == len(batch["targets"]) == 16
    )


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)
