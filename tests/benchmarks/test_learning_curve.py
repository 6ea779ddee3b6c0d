"""The comparison with the peer, in small: made-up text, a tiny model, a dozen steps."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bertjax.config import ModelConfig, PhaseConfig
from bertjax.data.corpus.prepared import prepare
from bertjax.data.corpus.sources import TextList

PHASE = PhaseConfig(sequence_length=64, batch_size=8, steps=12, max_predictions=10, learning_rate=5e-3, warmup_steps=3)


@pytest.fixture(scope="module")
def benchmark():
    """The script beside this file, as a module."""
    spec = importlib.util.spec_from_file_location("learning_curve", Path(__file__).with_name("learning_curve.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """40 documents of sentences of made-up words."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, size)) for size in random.integers(2, 9, 300)]
    share = 1 / np.arange(1, 301)  # as words are spread in a language, so that there is something to learn at once
    draw = lambda count: random.choice(words, count, p=share / share.sum())
    sentence = lambda: " ".join(draw(random.integers(3, 15))).capitalize() + "."
    texts = [" ".join(sentence() for _ in range(random.integers(5, 25))) for _ in range(40)]
    return prepare([TextList(texts)], tmp_path_factory.mktemp("corpus") / "prepared", vocab_size=400)


def test_losses_stay_with_those_of_the_peer(benchmark, corpus, tmp_path):
    """float32, no dropout, AdamW with decay, clipping and a schedule: every loss within 1e-3 at every step."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = ModelConfig(
        vocab_size=corpus.tokenizer.vocab_size,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        hidden_act="gelu_new",
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    run = benchmark.run_of(model, PHASE, clip_norm=1.0)
    batches = benchmark.read_batches(corpus, run)
    ours = benchmark.bertjax_losses(run, batches, corpus, tmp_path / "initial")
    theirs = benchmark.peer_losses(run, batches, tmp_path / "initial")
    assert ours.shape == (12, 3)
    assert ours[-3:, 2].mean() < ours[:3, 2].mean() - 0.2, "nothing is learned, so nothing is compared"
    assert np.abs(ours - theirs).max() < 1e-3
