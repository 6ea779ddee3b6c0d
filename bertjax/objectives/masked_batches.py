"""Masked batches straight from a list of texts, for custom training loops."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bertjax.config import most_predictions
from bertjax.data.corpus.building import corpus_of
from bertjax.data.stream.masking import check_words
from bertjax.data.stream.pipeline import evaluation_batches
from bertjax.data.stream.settings import ExampleSettings
from bertjax.errors import ConfigError
from bertjax.objectives.pair_cautions import check_corpus, check_pairs, phase_pairs
from bertjax.objectives.registry import find_objective


def masked_batches(
    texts: Sequence[str],
    tokenizer: Any,
    *,
    batch_size: int = 32,
    sequence_length: int = 128,
    max_predictions: int | None = None,
    masked_lm_prob: float = 0.15,
    objective: str = "mlm",
    packing: bool = True,
    whole_word_masking: bool = False,
    seed: int = 0,
) -> Iterator[dict[str, np.ndarray]]:
    """One pass over the texts as training batches (fields: ``bertjax.batch``), in an order drawn from ``seed``.

    Every text is a document. objective: "mlm" cuts it into runs of sentences; "mlm_nsp" makes next-sentence pairs and
    needs two documents; "mlm_sop" predicts the order of pairs. packing: several examples share a row without
    seeing each other. max_predictions: masked tokens a row, at most; by default masked_lm_prob of its length.
    whole_word_masking: the pieces of a word are masked together. All batches have batch_size rows; in the last one,
    rows beyond the end are empty and weigh nothing. Equal arguments give equal batches; another seed gives another
    order and other masks, so take a new one for every epoch.

    tokenizer: a ``text.tokenizer.Tokenizer``. Raises ConfigError (a ValueError) that names the argument, DataError
    where there is no text.
    """
    if isinstance(texts, str):
        raise ConfigError("texts must be a list of strings, not one string")
    texts = list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ConfigError(f"texts[{index}] must be a string, not {type(text).__name__}")
    if not isinstance(masked_lm_prob, int | float) or not 0.0 < masked_lm_prob < 1.0:
        raise ConfigError(f"masked_lm_prob = {masked_lm_prob!r} must lie between 0 and 1")
    _check_whole("sequence_length", sequence_length, 1, 2**20)
    if max_predictions is None:
        max_predictions = most_predictions(masked_lm_prob, sequence_length)
    _check_whole("max_predictions", max_predictions, 1, sequence_length)
    if not isinstance(whole_word_masking, bool):
        raise ConfigError(f"whole_word_masking = {whole_word_masking!r} must be True or False")
    _check_whole("batch_size", batch_size, 1, 2**20)
    _check_whole("seed", seed, 0, 2**31 - 1)
    chosen = find_objective(objective)
    settings = ExampleSettings(
        chosen.maker,
        sequence_length=sequence_length,
        max_predictions=max_predictions,
        max_examples_per_row=16 if packing else 1,
        masked_lm_prob=masked_lm_prob,
        whole_word_masking=whole_word_masking,
    )
    corpus = corpus_of(texts, tokenizer)
    check_corpus(chosen, corpus)
    check_words(corpus, tokenizer, settings, "whole_word_masking")
    check_pairs(chosen, corpus, phase_pairs(chosen, corpus, {"pairs": settings}, seed))
    return evaluation_batches(corpus, tokenizer, settings, batch_size, max_rows=2**62, seed=seed)


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{name} = {value!r} must be a whole number from {low} to {high}")
