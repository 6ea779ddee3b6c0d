"""The most probable tokens for a [MASK], with their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.inference.batches import run_by_length
from bertjax.inference.encoding import encode_texts, mask_pattern
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.text.tokenizer import Tokenizer, check_is_tokenizer


@dataclass(frozen=True)
class Filling:
    """A token for a mask. score: its probability. text: the given text with the token in place of the mask."""

    token: str
    token_id: int
    score: float
    text: str


@overload
def fill_mask(
    model: Bert, tokenizer: Tokenizer, texts: str, *, top_k: int = 5, batch_size: int = 32
) -> list[Filling] | list[list[Filling]]: ...
@overload
def fill_mask(
    model: Bert, tokenizer: Tokenizer, texts: Sequence[str], *, top_k: int = 5, batch_size: int = 32
) -> list[list[Filling] | list[list[Filling]]]: ...
def fill_mask(
    model: Bert, tokenizer: Tokenizer, texts: str | Sequence[str], *, top_k: int = 5, batch_size: int = 32
) -> Any:
    """The ``top_k`` most probable tokens for the mask ("[MASK]", or the tokenizer's own mask piece) in each text.

    For a text with one mask a list of ``Filling``, most probable first; with several masks a list of such lists, each
    mask filled while the others stay. For a list of texts a list of these.

    Raises ValueError for a text without a mask or with more tokens than the model takes, and a model without heads.
    """
    if isinstance(texts, str):
        return fill_mask(model, tokenizer, [texts], top_k=top_k, batch_size=batch_size)[0]
    texts = list(texts)
    check_is_tokenizer(tokenizer)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{index}] must be a string, not {type(text).__name__}")
    if not model.for_pretraining:
        raise ValueError("model has no masked-LM head; make or load it with for_pretraining=True")
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(f"tokenizer has {tokenizer.vocab_size} entries, model {model.config.vocab_size}")
    if not 1 <= top_k <= tokenizer.vocab_size:
        raise ValueError(f"top_k = {top_k} must lie in 1 .. {tokenizer.vocab_size}")
    examples = encode_texts(tokenizer, texts)
    places = [[i for i, token in enumerate(e.input_ids) if token == tokenizer.mask_id] for e in examples]
    for index, found in enumerate(places):
        if not found:
            raise ValueError(f"texts[{index}] has no {tokenizer.token(tokenizer.mask_id)}: {texts[index][:80]!r}")

    graphdef, params = split_params(model)

    def run(batch: dict[str, np.ndarray], chosen: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        most = 1 << (max(len(places[index]) for index in chosen) - 1).bit_length()
        positions = np.zeros((len(batch["input_ids"]), most), np.int32)
        for row, index in enumerate(chosen):
            positions[row, : len(places[index])] = places[index]
        scores, ids = _top(graphdef, params, batch, positions, top_k)
        return list(zip(np.asarray(scores), np.asarray(ids), strict=True))

    found = run_by_length(examples, batch_size, model.config, tokenizer.pad_id, run)
    results, masks = [], mask_pattern(tokenizer)
    for text, (scores, ids) in zip(texts, found, strict=True):
        spans = [match.span() for match in masks.finditer(text)]
        filled = [_fillings(tokenizer, text, *rest) for rest in zip(spans, scores, ids, strict=False)]
        results.append(filled[0] if len(filled) == 1 else filled)
    return results


@partial(jax.jit, static_argnums=(0, 4))
def _top(graphdef: Any, params: Any, batch: Any, positions: jax.Array, top_k: int):
    """Probabilities and ids [B, masks, top_k] at positions [B, masks]."""
    logits: Any = merge_params(graphdef, params)(**batch, masked_lm_positions=positions).mlm_logits
    return jax.lax.top_k(jax.nn.softmax(logits.astype(jnp.float32), axis=-1), top_k)


def _fillings(
    tokenizer: Tokenizer, text: str, span: tuple[int, int], scores: np.ndarray, ids: np.ndarray
) -> list[Filling]:
    before, after = text[: span[0]], text[span[1] :]
    fillings = []
    for score, token_id in zip(scores, ids, strict=True):
        token = tokenizer.decode([int(token_id)])
        # A piece that continues a word joins the one before it.
        joined = before.rstrip() + token[2:] if token.startswith("##") else before + token
        fillings.append(Filling(token, int(token_id), float(score), joined + after))
    return fillings
