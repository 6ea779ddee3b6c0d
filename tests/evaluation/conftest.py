"""A tokenizer and models with new weights, whose scores mean nothing, but are the same at every call."""

import pytest

import bertjax
from bertjax.text.vocabulary import train_tokenizer

TEXTS = [
    "The cat sat on the mat, and the dog sat on the log.",
    "Reading and writing and running and singing are fun.",
    "Numbers such as 3.14 and 2,718 are famous, and so is Paris.",
    "The authors that the guard likes laugh. A cat laughs. The dogs laugh.",
] * 5


@pytest.fixture(scope="session", autouse=True)
def few_samples():
    """Intervals of a few draws: they are tested with the bootstrap itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertjax.evaluation.suite.SAMPLES", 40)
        yield


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer("wordpiece", TEXTS, 300, lowercase=True)


def new_model(tokenizer, **dimensions):
    return bertjax.create_model(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=40,
        initializer_range=0.2,
        **dimensions,
    )


@pytest.fixture(scope="session")
def model(tokenizer):
    return new_model(tokenizer)


@pytest.fixture(scope="session")
def headless(tokenizer):
    return new_model(tokenizer, for_pretraining=False)


@pytest.fixture(scope="session")
def folder(model, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluation") / "model"
    bertjax.save_model(model, path, tokenizer=tokenizer)
    return path
