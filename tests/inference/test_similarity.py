import numpy as np
import pytest

import bertjax

PAIRS = [("the cat", "dog"), ("Reading is fun.", "the cat"), ("", "the dog sat"), ("the cat", "dog")]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_cosines_of_an_embedding_model_by_its_own_pooling(pooling, model, new_task_model, tokenizer):
    embedder = new_task_model("embedding", max_length=40, pooling=pooling)
    found = bertjax.similarity(embedder, tokenizer, PAIRS, batch_size=2)
    one, other = (bertjax.embed(model, tokenizer, [p[side] for p in PAIRS], pooling=pooling) for side in (0, 1))
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, cosines, atol=1e-5)
    assert bertjax.similarity(embedder, tokenizer, PAIRS[0]) == pytest.approx(cosines[0], abs=1e-5)
    assert bertjax.similarity(embedder, tokenizer, []).shape == (0,)


def test_an_encoder_without_a_task(model, new_task_model, tokenizer):
    embedder = new_task_model("embedding", max_length=40)
    ours = bertjax.similarity(model, tokenizer, PAIRS)
    np.testing.assert_allclose(ours, bertjax.similarity(embedder, tokenizer, PAIRS), atol=1e-5)


def test_a_model_for_pairs_gives_its_score(new_task_model, tokenizer):
    scorer = new_task_model("regression", ("score",), max_length=40)
    scores = [found.score for found in bertjax.classify(scorer, tokenizer, PAIRS)]
    np.testing.assert_allclose(bertjax.similarity(scorer, tokenizer, PAIRS), scores, atol=1e-5)


def test_texts_are_cut_as_the_model_says(model, new_task_model, tokenizer):
    embedder = new_task_model("embedding", max_length=10)
    long = "the cat sat on the mat " * 9
    with pytest.warns(UserWarning, match="more than 10 tokens are truncated"):
        cut = bertjax.embed(embedder, tokenizer, long)
    np.testing.assert_allclose(cut, bertjax.embed(model, tokenizer, long, max_length=10), atol=1e-5)


def test_mistakes_are_named(new_task_model, tokenizer):
    embedder = new_task_model("embedding", max_length=40)
    with pytest.raises(ValueError, match="pairs must be a tuple of two strings, or a list of them, not str"):
        bertjax.similarity(embedder, tokenizer, "the cat")
    with pytest.raises(ValueError, match=r"pairs\[1\] must be two strings"):
        bertjax.similarity(embedder, tokenizer, [("a", "b"), ("a",)])
    with pytest.raises(ValueError, match=r"model is for tagging; similarity needs one for regression or embedding"):
        bertjax.similarity(new_task_model("tagging", ("O",), max_length=40), tokenizer, PAIRS)
