"""The losses of embeddings: pairs that belong together are told from all others, or cosines follow scores.

A batch has P pairs of ``per_pair`` rows each: the first text, the second, and its negatives. weights float32 [rows]: 0
for padding. texts int32 [rows], where there is one: equal numbers are equal texts, -1 is a place without a text.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bertjax.finetune.objectives import NOWHERE, mean
from bertjax.objectives.losses import Batch, Objective, Values, weighted_cross_entropy


def contrastive(temperature: float, per_pair: int = 2) -> Objective:
    """Each text is told from those of the other pairs of the batch, its own negatives and theirs.

    Cross entropy over the cosines by ``temperature`` (Henderson et al. 2017; van den Oord et al. 2018), from the first
    texts to the second and the negatives, and from the second to the first. What is known to belong to a text - equal
    to it, or paired with it by a pair of the batch - is no rival of it.
    """

    def sums(output, batch: Batch) -> Values:
        unit, weights = _unit(output.embeddings), batch["weights"]
        first, second = unit[0::per_pair], unit[1::per_pair]
        others = [slice(place, None, per_pair) for place in range(1, per_pair)]
        candidates = jnp.concatenate([unit[rows] for rows in others])
        cosines = jnp.einsum("ih,jh->ij", first, candidates, precision=jax.lax.Precision.HIGHEST) / temperature
        pairs, own = len(second), jnp.arange(len(second))
        there = jnp.concatenate([weights[rows] for rows in others])[None, :] > 0
        is_rival = jnp.broadcast_to(there, cosines.shape)
        back = jnp.broadcast_to(weights[None, 0::per_pair] > 0, (pairs, pairs))
        if "texts" in batch:
            belongs = _belongs(batch["texts"], weights, others, per_pair)
            is_rival &= ~belongs
            back &= ~belongs[:, :pairs].T
        total = {"loss": jnp.zeros(()), "hits": jnp.zeros(())}
        for logits, kept in ((cosines, is_rival), (cosines[:, :pairs].T, back)):
            logits = jnp.where(kept, logits, NOWHERE)
            loss, hits = weighted_cross_entropy(logits, own, weights[0::per_pair])
            total = {"loss": total["loss"] + loss, "hits": total["hits"] + hits}
        return total

    # Each pair counts twice.
    count = lambda batch: 2.0 * jnp.sum(batch["weights"][0::per_pair])
    return mean(lambda batch: {"loss": count(batch), "hits": count(batch)}, sums)


def _belongs(texts: jax.Array, weights: jax.Array, others: list[slice], per_pair: int) -> jax.Array:
    """bool [P, P * (per_pair - 1)]: candidates that are no rivals of a first text, but for its own second one; places
    without a text among them."""
    texts = jnp.where(weights > 0, texts, -1)
    first, second = texts[0::per_pair], texts[1::per_pair]
    candidates = jnp.concatenate([texts[rows] for rows in others])
    equal = lambda ours, theirs: (ours[:, None] == theirs[None, :]).astype(jnp.float32)
    # A pair (a, b) of the batch makes b belong to every a, and a to every b.
    known = equal(first, first) @ equal(second, candidates) + equal(first, second) @ equal(first, candidates)
    found = (known + equal(first, candidates) > 0) | (candidates < 0)[None, :]
    return found & ~jnp.eye(len(first), len(candidates), dtype=bool)


def cosent(temperature: float, per_pair: int = 2) -> Objective:
    """Cosines in the order of the scores (batch field ``scores``, float32 [rows], of any scale).

    log(1 + sum of exp((cos[j] - cos[i]) / temperature) over all pairs i, j of the batch with scores[i] > scores[j]):
    CoSENT (Su Jianlin 2022, "CoSENT: a more effective sentence vector scheme than Sentence-BERT"; 1 / temperature is 20
    there, as in sentence-transformers' CoSENTLoss). The loss of several batches is their mean.
    """

    def sums(output, batch: Batch) -> Values:
        unit = _unit(output.embeddings)
        cosines = jnp.sum(unit[0::per_pair] * unit[1::per_pair], axis=1) / temperature
        scores, there = batch["scores"][0::per_pair], batch["weights"][0::per_pair] > 0
        higher = (scores[:, None] > scores[None, :]) & there[:, None] & there[None, :]
        inverted = jnp.where(higher, cosines[None, :] - cosines[:, None], NOWHERE)
        return {"loss": jax.nn.logsumexp(jnp.append(inverted.reshape(-1), 0.0))}

    return mean(lambda batch: {"loss": jnp.max(batch["weights"])}, sums)


def _unit(vectors: jax.Array) -> jax.Array:
    """Of length 1; what is 0, such as the vector of a row without tokens, stays so and has a gradient."""
    squares = jnp.sum(jnp.square(vectors), axis=1, keepdims=True)
    return vectors / jnp.sqrt(jnp.maximum(squares, 1e-24))
