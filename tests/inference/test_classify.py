import dataclasses

import numpy as np
import pytest
from scipy.special import expit, softmax

import bertjax

TEXTS = ["the cat", ("The dog sat.", "the mat"), "Reading and writing and running are fun.", "", "x"]
LABELS = ("good", "bad", "neither of them")


def logits(model, tokenizer):
    return np.asarray(model(**bertjax.encode(tokenizer, TEXTS)).logits)


def test_one_label(new_task_model, tokenizer):
    model = new_task_model("classification", LABELS, max_length=40)
    found = bertjax.classify(model, tokenizer, TEXTS, batch_size=3)
    for expected, result in zip(softmax(logits(model, tokenizer), axis=-1), found, strict=True):
        assert list(result.probabilities) == list(LABELS)
        np.testing.assert_allclose(list(result.probabilities.values()), expected, atol=1e-5)
        assert result.label == LABELS[expected.argmax()]
        assert result.probability == result.probabilities[result.label]
    assert bertjax.classify(model, tokenizer, TEXTS[1]).label == found[1].label
    assert bertjax.classify(model, tokenizer, []) == []


def test_several_labels(new_task_model, tokenizer):
    model = new_task_model("multi_label", LABELS, max_length=40)
    probabilities = expit(logits(model, tokenizer))
    for threshold in (0.0, 0.5, 1.0):
        found = bertjax.classify(model, tokenizer, TEXTS, threshold=threshold)
        for row, result in zip(probabilities, found, strict=True):
            expected = dict(zip(LABELS, row, strict=True))
            np.testing.assert_allclose(list(result.probabilities.values()), list(expected.values()), atol=1e-5)
            over = [label for label in LABELS if expected[label] > threshold]
            assert result.labels == sorted(over, key=lambda label: -expected[label])


def test_a_number(new_task_model, tokenizer):
    model = new_task_model("regression", ("score",), max_length=40)
    scores = [result.score for result in bertjax.classify(model, tokenizer, TEXTS)]
    np.testing.assert_allclose(scores, logits(model, tokenizer)[:, 0], atol=1e-5)


def test_long_texts_are_cut_with_one_warning(new_task_model, tokenizer):
    model = new_task_model("classification", LABELS, max_length=12)
    texts = [("the cat sat " * 30, "dog"), "the cat sat " * 30, "the dog"]
    with pytest.warns(UserWarning, match="texts of more than 12 tokens are truncated") as caught:
        found = bertjax.classify(model, tokenizer, texts)
    assert len(caught) == 1 and caught[0].filename == __file__
    cut = np.asarray(model(**bertjax.encode(tokenizer, texts, max_length=12)).logits)
    for row, result in zip(cut, found, strict=True):
        np.testing.assert_allclose(list(result.probabilities.values()), softmax(row), atol=1e-5)


def test_mistakes_are_named(model, new_task_model, tokenizer):
    tagger = new_task_model("tagging", ("O", "B-X"), max_length=40)
    with pytest.raises(ValueError, match=r"model is for tagging, not classification .*; use tag"):
        bertjax.classify(tagger, tokenizer, "text")
    with pytest.raises(TypeError, match=r"model must come from bertjax\.load_task_model\(path\), not be a Bert"):
        bertjax.classify(model, tokenizer, "text")
    good = new_task_model("classification", LABELS, max_length=40)
    with pytest.raises(ValueError, match=r"texts\[1\] must be a string or a pair"):
        bertjax.classify(good, tokenizer, ["a", 3])
    with pytest.raises(ValueError, match=r"texts\[0\] holds half a surrogate pair"):
        bertjax.classify(good, tokenizer, "\ud800")
    with pytest.raises(ValueError, match="batch_size = 0"):
        bertjax.classify(good, tokenizer, ["a"], batch_size=0)


def test_results_are_plain_values(new_task_model, tokenizer):
    import json

    model = new_task_model("classification", LABELS, max_length=40)
    assert json.loads(json.dumps(dataclasses.asdict(bertjax.classify(model, tokenizer, "a"))))["label"] in LABELS


def test_transformers_gives_the_same(new_task_model, tokenizer, tmp_path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = new_task_model("classification", LABELS, max_length=40)
    bertjax.save_task_model(model, tmp_path / "model", tokenizer)
    peer = transformers.pipeline("text-classification", model=str(tmp_path / "model"), top_k=None)
    for text in ("The cat sat on the mat.", "3.14 is famous"):
        ours = bertjax.classify(model, tokenizer, text).probabilities
        for found in peer([text])[0]:
            assert ours[found["label"]] == pytest.approx(found["score"], abs=1e-4)
