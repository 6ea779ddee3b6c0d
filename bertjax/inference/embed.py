"""Embeddings of texts, and the similarity of two texts: a cosine, or the score of a model that reads both."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.config import nearest
from bertjax.inference.batches import ONE_DEVICE, Placement, check_pair, run_by_length
from bertjax.inference.classify import classify
from bertjax.inference.encoding import Text, encode_texts, encode_truncated, is_single
from bertjax.model.bert import Bert
from bertjax.model.task import POOLINGS, TaskModel
from bertjax.text.tokenizer import Tokenizer


def embed(
    model: Bert | TaskModel,
    tokenizer: Tokenizer,
    texts: Text | Sequence[Text],
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
    placement: Placement = ONE_DEVICE,
) -> np.ndarray:
    """A vector for each text: float32 [n, H]; [H] for a single text or pair.

    pooling: "mean" of the last layer's outputs over all tokens, [CLS] and [SEP] included, or "cls", the output at
    [CLS]; by default that of a model for embedding, else "mean". normalize: to length 1, so that products are cosines;
    by default as a model for embedding does, else not. max_length: tokens of a text that are read; by default as many
    as the model takes, with a warning if a text has more. texts may be pairs. placement: the devices that hold the
    parameters. Raises ValueError that names the argument.
    """
    several: Any = [texts] if is_single(texts) else list(texts)
    longest = own_length = model.config.max_position_embeddings
    if isinstance(model, TaskModel):
        if model.task.kind == "embedding":
            pooling, own_length = pooling or model.task.pooling, min(model.task.max_length, longest)
            normalize = model.task.normalize if normalize is None else normalize
        model = model.bert
    pooling = "mean" if pooling is None else pooling
    if pooling not in POOLINGS:
        raise ValueError(f"pooling = {pooling!r}; {nearest(str(pooling), POOLINGS)}")
    check_pair(model, tokenizer, may_pad=True)
    if max_length is None:
        examples = encode_truncated(tokenizer, several, own_length)
    else:
        examples = encode_texts(tokenizer, several, min(max_length, longest))
    settings = (pooling, bool(normalize))
    vectors = run_by_length(_embedded, model, tokenizer, examples, batch_size, *settings, placement=placement)
    if is_single(texts):
        return vectors[0]
    return np.stack(vectors) if vectors else np.zeros((0, model.config.hidden_size), np.float32)


def _embedded(model: Bert, batch: dict[str, jax.Array], pooling: str, normalize: bool) -> jax.Array:
    output = model(**batch)
    vectors = POOLINGS[pooling](output.sequence_output, batch["attention_mask"])
    if normalize:
        vectors = vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return vectors


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
    pairs = list(pairs)
    for index, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or [type(part) for part in pair] != [str, str]:
            raise ValueError(f"pairs[{index}] must be two strings, not {type(pair).__name__}")
    if isinstance(model, TaskModel) and model.task.kind != "embedding":
        if model.task.kind != "regression":
            raise ValueError(f"model is for {model.task.kind}; similarity needs one for regression or embedding")
        return np.array([found.score for found in classify(model, tokenizer, pairs, batch_size=batch_size)], np.float32)
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    vectors = embed(model, tokenizer, texts, normalize=True, batch_size=batch_size)
    place = {text: number for number, text in enumerate(texts)}
    one, other = (vectors[[place[pair[side]] for pair in pairs]] for side in (0, 1))
    return np.sum(one * other, axis=1)
