"""The most probable tokens for a [MASK], with their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.inference.batches import check_pair, run_by_length
from bertjax.inference.encoding import check_text, encode_texts, mask_pattern
from bertjax.model.bert import Bert
from bertjax.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Filling:
    """A token for a mask. score: its probability. text: the given text with the token in place of the mask."""

    token: str
    token_id: int
    score: float
    text: str


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
    for index, text in enumerate(texts):
        check_text(text, f"texts[{index}]")
    if "mlm_head" not in model.heads:
        raise ValueError("model has no masked-LM head; make or load it with for_pretraining=True")
    check_pair(model, tokenizer)
    if not 1 <= top_k <= tokenizer.vocab_size:
        raise ValueError(f"top_k = {top_k} must lie in 1 .. {tokenizer.vocab_size}")
    examples = encode_texts(tokenizer, texts)
    places = [[i for i, token in enumerate(e.input_ids) if token == tokenizer.mask_id] for e in examples]
    for index, found in enumerate(places):
        if not found:
            raise ValueError(f"texts[{index}] has no {tokenizer.token(tokenizer.mask_id)}: {texts[index][:80]!r}")
    found = run_by_length(_top, model, tokenizer, examples, batch_size, top_k, positions=places)
    results, masks = [], mask_pattern(tokenizer)
    for text, (scores, ids) in zip(texts, found, strict=True):
        spans = [match.span() for match in masks.finditer(text)]
        filled = [_fillings(tokenizer, text, *rest) for rest in zip(spans, scores, ids, strict=False)]
        results.append(filled[0] if len(filled) == 1 else filled)
    return results


def _top(model: Bert, batch: dict[str, jax.Array], top_k: int) -> tuple[jax.Array, jax.Array]:
    """Probabilities and ids [B, masks, top_k] at ``masked_lm_positions``."""
    logits: Any = model(**batch).mlm_logits
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
