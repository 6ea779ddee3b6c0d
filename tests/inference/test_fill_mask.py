import numpy as np
import pytest
from scipy.special import softmax

import bertjax


def test_scores_are_the_probabilities_of_the_model(model, tokenizer):
    text = "The [MASK] sat on the mat."
    fillings = bertjax.fill_mask(model, tokenizer, text, top_k=7)
    inputs = bertjax.encode(tokenizer, text)
    place = inputs["input_ids"][0].tolist().index(tokenizer.mask_id)
    expected = softmax(np.asarray(model(**inputs).mlm_logits)[0, place])
    order = np.argsort(-expected)[:7]
    assert [f.token_id for f in fillings] == order.tolist()
    np.testing.assert_allclose([f.score for f in fillings], expected[order], rtol=1e-4)
    assert all(f.token == tokenizer.decode([f.token_id]) for f in fillings)


def test_texts_of_unequal_length_and_several_masks(model, tokenizer):
    texts = ["The [MASK] sat.", "[MASK] and the [MASK] sat on the mat.", "A [MASK]"] * 3
    together = bertjax.fill_mask(model, tokenizer, texts, top_k=3, batch_size=2)
    assert len(together) == 9 and len(together[1]) == 2 and len(together[1][0]) == 3
    for text, result in zip(texts, together, strict=True):
        alone = bertjax.fill_mask(model, tokenizer, text, top_k=3)
        flat = lambda r: [f for part in r for f in (part if isinstance(part, list) else [part])]
        assert [f.token_id for f in flat(alone)] == [f.token_id for f in flat(result)]
        np.testing.assert_allclose([f.score for f in flat(alone)], [f.score for f in flat(result)], rtol=1e-3)
    assert together[1][1][0].text.startswith("[MASK] and the ")


def test_a_piece_joins_the_word_before_it(model):
    from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceTokenizer

    tokenizer = WordPieceTokenizer([*WORDPIECE_SPECIALS, "##ing", "sing"])
    small = bertjax.create_model(
        vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, max_position_embeddings=8
    )
    texts = {f.token: f.text for f in bertjax.fill_mask(small, tokenizer, "sing [MASK]!", top_k=7)}
    assert texts["##ing"] == "singing!" and texts["sing"] == "sing sing!"


def test_mistakes_are_named(model, tokenizer):
    with pytest.raises(ValueError, match=r"texts\[1\] has no "):
        bertjax.fill_mask(model, tokenizer, ["a [MASK]", "none"])
    with pytest.raises(ValueError, match=r"texts\[0\] has \d+ tokens; the model takes 40"):
        bertjax.fill_mask(model, tokenizer, "[MASK] " + "the cat " * 40)
    with pytest.raises(ValueError, match=r"texts\[0\] must be a string, not tuple"):
        bertjax.fill_mask(model, tokenizer, [("a [MASK]", "b")])
    with pytest.raises(ValueError, match="top_k = 0"):
        bertjax.fill_mask(model, tokenizer, "[MASK]", top_k=0)
    headless = bertjax.create_model(
        vocab_size=tokenizer.vocab_size,
        hidden_size=8,
        num_attention_heads=2,
        num_hidden_layers=1,
        for_pretraining=False,
    )
    with pytest.raises(ValueError, match="no masked-LM head"):
        bertjax.fill_mask(headless, tokenizer, "[MASK]")
    other = bertjax.create_model(vocab_size=500, hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
    with pytest.raises(ValueError, match="entries, model 500"):
        bertjax.fill_mask(other, tokenizer, "[MASK]")


@pytest.mark.parametrize("top_k", [1, 5])
def test_transformers_fills_the_same_words(model, tokenizer, top_k, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    bertjax.save_model(model, tmp_path / "model", tokenizer=tokenizer)
    mask = tokenizer.token(tokenizer.mask_id)
    peer = transformers.pipeline("fill-mask", model=str(tmp_path / "model"), top_k=top_k)
    for text in (f"The {mask} sat on the mat.", f"{mask} is fun.", f"Paris is {mask}, and 3.14 is not."):
        ours = bertjax.fill_mask(model, tokenizer, text, top_k=top_k)
        theirs = peer(text)
        assert [f.token_id for f in ours] == [f["token"] for f in theirs]
        np.testing.assert_allclose([f.score for f in ours], [f["score"] for f in theirs], rtol=1e-3)
