"""Similarity of two texts: the cosine of their embeddings, or the score of a model that reads both."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertjax.inference.classify import classify
from bertjax.inference.embed import embed
from bertjax.inference.encoding import is_single
from bertjax.model.bert import Bert
from bertjax.model.task import TaskModel
from bertjax.text.tokenizer import Tokenizer


def similarity(
    model: Bert | TaskModel,
    tokenizer: Tokenizer,
    pairs: tuple[str, str] | Sequence[tuple[str, str]],
    *,
    batch_size: int = 32,
) -> Any:
    """A float for a pair (a tuple of two strings); float32 [n] for a list of pairs.

    A model for regression reads the pair and gives a score on the scale of its labels. A model for embedding, or an
    encoder without a task, gives the cosine of the embeddings, -1 .. 1. Raises ValueError that names the argument.
    """
    if isinstance(pairs, str):
        raise ValueError("pairs must be a tuple of two strings, or a list of them, not str")
    if is_single(pairs):
        single: Any = [pairs]
        return float(similarity(model, tokenizer, single, batch_size=batch_size)[0])
    pairs = [_pair(pair, index) for index, pair in enumerate(pairs)]
    if isinstance(model, TaskModel) and model.task.kind != "embedding":
        if model.task.kind != "regression":
            raise ValueError(f"model is for {model.task.kind}; similarity needs one for regression or embedding")
        return np.array([found.score for found in classify(model, tokenizer, pairs, batch_size=batch_size)], np.float32)
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    vectors = embed(model, tokenizer, texts, normalize=True, batch_size=batch_size)
    place = {text: number for number, text in enumerate(texts)}
    one, other = (vectors[[place[pair[side]] for pair in pairs]] for side in (0, 1))
    return np.sum(one * other, axis=1)


def _pair(pair: Any, index: int) -> tuple[str, str]:
    if not isinstance(pair, list | tuple) or [type(part) for part in pair] != [str, str]:
        raise ValueError(f"pairs[{index}] must be two strings, not {type(pair).__name__}")
    return pair[0], pair[1]
