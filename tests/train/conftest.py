"""A corpus of made-up documents and a tokenizer stand-in, for tests of what comes after the data; a small whole run."""

import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import bertjax.train
from bertjax.config import default_config, phase

VOCABULARY = 200


@pytest.fixture(scope="session")
def synthetic():
    """(corpus, tokenizer): 60 documents of 3 to 20 sentences of 2 to 15 tokens."""
    random = np.random.default_rng(0)
    sentences = random.integers(3, 21, 60)
    lengths = random.integers(2, 16, sentences.sum())
    document_sentences = np.concatenate([[0], np.cumsum(sentences)])
    tokens_before = np.concatenate([[0], np.cumsum(lengths)])
    corpus = SimpleNamespace(
        tokens=random.integers(5, VOCABULARY, lengths.sum()).astype(np.uint16),
        sentence_lengths=lengths.astype(np.uint16),
        document_sentences=document_sentences.astype(np.int64),
        document_tokens=tokens_before[document_sentences].astype(np.int64),
        fingerprint="synthetic",
        num_documents=60,
        num_sentences=len(lengths),
        num_tokens=int(lengths.sum()),
    )
    tokenizer = SimpleNamespace(
        kind="wordpiece",
        vocab_size=VOCABULARY,
        pad_id=0,
        unk_id=1,
        cls_id=2,
        sep_id=3,
        mask_id=4,
        special_ids=(0, 1, 2, 3, 4),
        continues_word=lambda: np.zeros(VOCABULARY, bool),
    )
    return corpus, tokenizer


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def small_config(corpus_file):
    config = default_config()
    config.name = "test"
    config.precision = "float32"
    config.model.update(
        vocab_size=600, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    config.data.corpus = str(corpus_file)
    config.data.block_tokens = 20_000
    config.phases.phase1 = phase(
        sequence_length=32, batch_size=16, steps=6, max_predictions=5, learning_rate=1e-2, warmup_steps=2
    )
    config.phases.phase2 = phase(sequence_length=64, batch_size=8, steps=4, max_predictions=10)
    config.checkpoint.every_steps = 3
    config.logging.every_steps = 2
    config.evaluation.max_rows = 32
    return config


@pytest.fixture
def config(corpus_file):
    """Two phases of 6 and 4 steps on a model of 2 layers x 16."""
    return small_config(corpus_file)


@pytest.fixture(scope="session", autouse=True)
def two_devices_or_as_many_as_are_asked_for():
    """Of the eight virtual ones: a run takes a third less time than on all of them."""
    from bertjax.parallel.mesh import make_mesh
    from bertjax.train import pretraining

    with pytest.MonkeyPatch.context() as patch:
        few = lambda *sizes: make_mesh(*sizes, jax.devices()[: math.prod(2 if n == -1 else n for n in sizes)])
        patch.setattr(pretraining, "make_mesh", few)
        yield


@pytest.fixture(scope="session")
def finished(corpus_file, made_once):
    """The workdir of such a run, with checkpoints 6, 9 and 10. Not to be written to."""
    return made_once("finished", lambda path: bertjax.train.run(small_config(corpus_file), path, say=lambda line: None))
