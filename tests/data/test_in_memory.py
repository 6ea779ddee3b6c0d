import numpy as np
import pytest

from bertjax import batch as batch_fields
from bertjax.data.corpus.building import corpus_of
from bertjax.errors import ConfigError, DataError
from bertjax.objectives.masked_batches import masked_batches
from bertjax.text.vocabulary import train_tokenizer

TEXTS = [f"Document {i} is here. It says {i} things, and no more. Then it ends." for i in range(30)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("wordpiece", TEXTS, 120, lowercase=True)


@pytest.mark.parametrize("objective", ["mlm", "mlm_nsp"])
@pytest.mark.parametrize("packing", [True, False])
def test_a_pass_holds_every_token_once(tokenizer, objective, packing):
    batches = list(
        masked_batches(TEXTS, tokenizer, batch_size=4, sequence_length=64, objective=objective, packing=packing)
    )
    corpus = corpus_of(TEXTS, tokenizer)
    assert corpus.num_documents == 30 and corpus.num_sentences == 90
    real = np.concatenate([np.where(b["example_ids"] > 0, restored(b), 0).ravel() for b in batches])
    for batch in batches:
        assert batch["input_ids"].shape == (4, 64) and batch["masked_lm_positions"].shape == (4, 10)
        assert set(batch) == set(batch_fields.FIELDS)
    if objective == "mlm":
        text = real[~np.isin(real, tokenizer.special_ids)]
        assert sorted(text) == sorted(int(t) for t in corpus.tokens if int(t) not in tokenizer.special_ids)
    pairs = sum(float(b["next_sentence_weights"].sum()) for b in batches)
    assert (pairs > 0) == (objective == "mlm_nsp")


def restored(batch):
    """input_ids with the masked tokens put back."""
    ids = batch["input_ids"].copy()
    rows, places = np.nonzero(batch["masked_lm_weights"])
    ids[rows, batch["masked_lm_positions"][rows, places]] = batch["masked_lm_ids"][rows, places]
    return ids


def test_equal_seeds_give_equal_batches(tokenizer):
    first, again, other = (list(masked_batches(TEXTS, tokenizer, batch_size=4, seed=s)) for s in (1, 1, 2))
    assert all(np.array_equal(a["input_ids"], b["input_ids"]) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a["input_ids"], b["input_ids"]) for a, b in zip(first, other, strict=True))


def test_mistakes_are_named(tokenizer):
    for arguments, message in (
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": 1.5}, "batch_size = 1.5"),
        ({"masked_lm_prob": 1.5}, "masked_lm_prob = 1.5"),
        ({"max_predictions": 0}, "max_predictions = 0"),
        ({"max_predictions": 1000}, "max_predictions = 1000"),
        ({"sequence_length": "x"}, "sequence_length = 'x'"),
        ({"whole_word_masking": "no"}, "whole_word_masking = 'no'"),
        ({"seed": "a"}, "seed = 'a'"),
        ({"objective": "nsp"}, "objective = 'nsp'"),
        ({"sequence_length": 2}, "sequence_length = 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            masked_batches(TEXTS, tokenizer, **arguments)
    with pytest.raises(ConfigError, match="not one string"):
        masked_batches("text", tokenizer)
    with pytest.raises(ConfigError, match=r"texts\[1\] must be a string"):
        masked_batches(["a", 3], tokenizer)
    with pytest.raises(DataError, match="only one document"):
        masked_batches(TEXTS[:1], tokenizer, objective="mlm_nsp")
    with pytest.raises(DataError, match="empty"):
        masked_batches(["", "  "], tokenizer)
