"""A tokenizer and a model with new weights; what they say means nothing, but is the same at every call."""

import functools

import pytest

import bertjax
from bertjax.interop.task_models import with_new_head
from bertjax.model.bert import split_params
from bertjax.model.task import TaskConfig
from bertjax.text.vocabulary import train_tokenizer

TEXTS = [
    "The cat sat on the mat, and the dog sat on the log.",
    "Reading and writing and running and singing are fun.",
    "Numbers such as 3.14 and 2,718 are famous, and so is Paris.",
] * 5


@pytest.fixture(scope="session", params=["wordpiece", "sentencepiece"])
def tokenizer(request):
    return train_tokenizer(request.param, TEXTS, 300, lowercase=True)


@pytest.fixture(scope="session")
def model(tokenizer):
    return bertjax.create_model(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=40,
        initializer_range=0.2,
    )


@pytest.fixture(scope="session")
def new_task_model(model):
    """``new_task_model(kind, labels, ...)``: the encoder of ``model`` with a new head; arguments of ``TaskConfig``."""
    encoder = split_params(model)[1]

    @functools.cache
    def make(*task, **settings):
        return with_new_head(model.config, encoder, TaskConfig(*task, **settings), seed=4)

    return make
