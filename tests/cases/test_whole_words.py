"""Tokenizers without marks: words are those of the pre-tokenizer, where whole words were single pieces before."""

from __future__ import annotations

import numpy as np
import pytest

from bertjax.objectives.masked_batches import masked_batches
from bertjax.text.tokenizer import load_tokenizer

TEXTS = [f"Sentence number {i} speaks of undiscovered rivers, and of the sea" for i in range(60)]


@pytest.mark.parametrize("name", ["tokenizer_without_post_processor", "tokenizer_pair_without_types"])
def test_words_come_from_the_pre_tokenizer(cases, name):
    tokenizer = load_tokenizer(cases / name)
    assert not tokenizer.continues_word().any()
    ids, starts = tokenizer.encode_with_word_starts(TEXTS[:1])
    words = np.split(np.array(ids[0]), np.flatnonzero(starts)[1:])
    told = ["".join(tokenizer.token(i) for i in word) for word in words]
    assert told[2:6] == [TEXTS[0].lower().split()[2], "speaks", "of", "undiscovered"] and told[6:8] == ["rivers", ","]

    batches = [list(masked_batches(TEXTS, tokenizer, whole_word_masking=on, packing=False)) for on in (True, False)]
    masked = [np.concatenate([batch["masked_lm_positions"] for batch in part]) for part in batches]
    count = [[batch["masked_lm_weights"].sum() for batch in part] for part in batches]
    assert count[0] == count[1] and (masked[0] != masked[1]).any()
