"""Vectors for texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.config import nearest
from bertjax.inference.batches import run_by_length
from bertjax.inference.encoding import Text, encode_texts, is_single
from bertjax.model.bert import Bert, BertOutput, merge_params, split_params
from bertjax.model.task import TaskModel
from bertjax.text.tokenizer import Tokenizer, check_is_tokenizer


def _mean(output: BertOutput, mask: jax.Array) -> jax.Array:
    weights = mask.astype(jnp.float32)[:, :, None]
    return (output.sequence_output * weights).sum(axis=1) / weights.sum(axis=1)


# ``(output, attention_mask [B, S]) -> [B, H]``
POOLINGS = {"mean": _mean, "cls": lambda output, mask: output.sequence_output[:, 0]}


def embed(
    model: Bert | TaskModel,
    tokenizer: Tokenizer,
    texts: Text | Sequence[Text],
    *,
    pooling: str | None = None,
    normalize: bool = False,
    batch_size: int = 32,
    max_length: int | None = None,
) -> np.ndarray:
    """A vector for each text: float32 [n, H]; [H] for a single text or pair that is in no list.

    pooling: "mean" of the last layer's outputs over all tokens of the text, [CLS] and [SEP] included, or "cls", its
    output at [CLS]; by default the model's own where it was made for embedding, else "mean". normalize: to length 1,
    so that products are cosines. max_length: tokens of a text that are looked at, by default as many as the model
    takes. texts may be pairs. Raises ValueError that names the argument.
    """
    if isinstance(model, TaskModel):
        if model.task.kind == "embedding":
            pooling = pooling or model.task.pooling
            max_length = model.task.max_length if max_length is None else max_length
        model = model.bert
    pooling = "mean" if pooling is None else pooling
    if pooling not in POOLINGS:
        raise ValueError(f"pooling = {pooling!r}; {nearest(str(pooling), POOLINGS)}")
    if is_single(texts):
        arguments: dict[str, Any] = {"pooling": pooling, "normalize": normalize, "max_length": max_length}
        single: Any = texts
        return embed(model, tokenizer, [single], **arguments, batch_size=1)[0]
    check_is_tokenizer(tokenizer)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(f"tokenizer has {tokenizer.vocab_size} entries, model {model.config.vocab_size}")
    longest = model.config.max_position_embeddings
    examples = encode_texts(tokenizer, list(texts), longest if max_length is None else min(max_length, longest))
    graphdef, params = split_params(model)

    def run(batch: dict[str, np.ndarray], chosen: Sequence[int]) -> list[np.ndarray]:
        return list(np.asarray(_embedded(graphdef, params, batch, pooling, normalize)))

    vectors = run_by_length(examples, batch_size, model.config, tokenizer.pad_id, run)
    return np.stack(vectors) if vectors else np.zeros((0, model.config.hidden_size), np.float32)


@partial(jax.jit, static_argnums=(0, 3, 4))
def _embedded(graphdef: Any, params: Any, batch: Any, pooling: str, normalize: bool) -> jax.Array:
    vectors = POOLINGS[pooling](merge_params(graphdef, params)(**batch), batch["attention_mask"])
    vectors = vectors.astype(jnp.float32)
    if normalize:
        vectors = vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return vectors
