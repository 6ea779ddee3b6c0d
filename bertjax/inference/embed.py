"""Embeddings of texts."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.config import nearest
from bertjax.inference.batches import ONE_DEVICE, Placement, run_by_length
from bertjax.inference.encoding import Text, encode_texts, encode_truncated, is_single
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.task import POOLINGS, TaskModel
from bertjax.text.tokenizer import Tokenizer, check_is_tokenizer


def embed(
    model: Bert | TaskModel,
    tokenizer: Tokenizer,
    texts: Text | Sequence[Text],
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
) -> np.ndarray:
    """A vector for each text: float32 [n, H]; [H] for a single text or pair.

    pooling: "mean" of the last layer's outputs over all tokens, [CLS] and [SEP] included, or "cls", the output at
    [CLS]; by default that of a model for embedding, else "mean". normalize: to length 1, so that products are cosines;
    by default as a model for embedding does, else not. max_length: tokens of a text that are read; by default as many
    as the model takes, with a warning if a text has more. texts may be pairs. Raises ValueError that names the
    argument.
    """
    if is_single(texts):
        settings: dict[str, Any] = {"pooling": pooling, "normalize": normalize, "max_length": max_length}
        single: Any = [texts]
        return embed(model, tokenizer, single, **settings, batch_size=1)[0]
    return embed_placed(ONE_DEVICE, model, tokenizer, texts, pooling, normalize, batch_size, max_length)


def embed_placed(
    placement: Placement,
    model: Bert | TaskModel,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    pooling: str | None,
    normalize: bool | None,
    batch_size: int,
    max_length: int | None,
) -> np.ndarray:
    """``embed`` for a model with its parameters on the devices of ``placement``."""
    longest = own_length = model.config.max_position_embeddings
    if isinstance(model, TaskModel):
        if model.task.kind == "embedding":
            pooling, own_length = pooling or model.task.pooling, min(model.task.max_length, longest)
            normalize = model.task.normalize if normalize is None else normalize
        model = model.bert
    pooling = "mean" if pooling is None else pooling
    if pooling not in POOLINGS:
        raise ValueError(f"pooling = {pooling!r}; {nearest(str(pooling), POOLINGS)}")
    check_is_tokenizer(tokenizer)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(f"tokenizer has {tokenizer.vocab_size} entries, model {model.config.vocab_size}")
    if max_length is None:
        examples = encode_truncated(tokenizer, list(texts), own_length)
    else:
        examples = encode_texts(tokenizer, list(texts), min(max_length, longest))
    graphdef, params = split_params(model)

    def run(batch: dict[str, np.ndarray], chosen: Sequence[int]) -> list[np.ndarray]:
        return list(placement.get(_embedded(graphdef, params, placement.put(batch), pooling, bool(normalize))))

    vectors = run_by_length(examples, batch_size, model.config, tokenizer.pad_id, run, placement.shards)
    return np.stack(vectors) if vectors else np.zeros((0, model.config.hidden_size), np.float32)


@partial(jax.jit, static_argnums=(0, 3, 4))
def _embedded(graphdef: Any, params: Any, batch: Any, pooling: str, normalize: bool) -> jax.Array:
    output = merge_params(graphdef, params)(**batch)
    vectors = POOLINGS[pooling](output.sequence_output, batch["attention_mask"])
    if normalize:
        vectors = vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return vectors
