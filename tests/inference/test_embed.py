import numpy as np
import pytest

import bertjax

TEXTS = ["the cat", "Reading and writing and running and singing are fun.", "", "dog", "the dog sat on the log"]


def test_mean_and_cls_by_hand(model, tokenizer):
    for text in TEXTS:
        inputs = bertjax.encode(tokenizer, text)
        states = np.asarray(model(**inputs).sequence_output)[0]
        np.testing.assert_allclose(bertjax.embed(model, tokenizer, text), states.mean(0), atol=1e-5)
        np.testing.assert_allclose(bertjax.embed(model, tokenizer, text, pooling="cls"), states[0], atol=1e-5)


def test_a_batch_gives_what_each_text_gives(model, tokenizer):
    together = bertjax.embed(model, tokenizer, TEXTS, batch_size=2)
    assert together.shape == (5, 32) and together.dtype == np.float32
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(bertjax.embed(model, tokenizer, text), vector, atol=1e-5)
    assert bertjax.embed(model, tokenizer, []).shape == (0, 32)


def test_normalised_vectors_have_length_one(model, tokenizer):
    plain = bertjax.embed(model, tokenizer, TEXTS)
    unit = bertjax.embed(model, tokenizer, TEXTS, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-5)


def test_long_texts_are_cut(model, tokenizer):
    long = "the cat sat " * 50
    with pytest.warns(UserWarning, match="more than 40 tokens are truncated"):
        cut = bertjax.embed(model, tokenizer, long)
    states = np.asarray(model(**bertjax.encode(tokenizer, long, max_length=40)).sequence_output)[0]
    np.testing.assert_allclose(cut, states.mean(0), atol=1e-5)
    assert not np.allclose(cut, bertjax.embed(model, tokenizer, long, max_length=10), atol=1e-3)


def test_mistakes_are_named(model, tokenizer):
    with pytest.raises(ValueError, match="pooling = 'max'"):
        bertjax.embed(model, tokenizer, TEXTS, pooling="max")
    with pytest.raises(ValueError, match="batch_size = 0"):
        bertjax.embed(model, tokenizer, TEXTS, batch_size=0)
    with pytest.raises(ValueError, match=r"texts\[1\] must be a string"):
        bertjax.embed(model, tokenizer, ["a", 3])


def test_a_pair_is_one_text(model, tokenizer):
    pair = ("the cat", "dog")
    vector = bertjax.embed(model, tokenizer, pair)
    assert vector.shape == (32,)
    np.testing.assert_allclose(vector, bertjax.embed(model, tokenizer, [pair, "x"])[0], atol=1e-5)


def test_a_model_without_second_texts_says_so(tokenizer):
    small = bertjax.create_model(
        vocab_size=tokenizer.vocab_size, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, type_vocab_size=1
    )
    with pytest.raises(ValueError, match=r"texts\[0\] is a pair; the model has 1 token type"):
        bertjax.embed(small, tokenizer, [("the cat", "dog")])
