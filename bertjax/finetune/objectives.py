"""What each kind of task minimises.

``weights`` float32 [B] of a batch: 1 for a row that counts, 0 for padding. A batch of embeddings has P pairs of
``per_pair`` rows each: the first text, the second, and its negatives. texts int32 [rows], where given: equal numbers
are equal texts, -1 is a place without a text.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from bertjax.batch import Batch, Objective, Values
from bertjax.finetune.batching import IGNORED
from bertjax.objectives.losses import weighted_cross_entropy

# A logit that no token of padding may have; see also ``model.heads``.
NOWHERE = -1e30


def classes(class_weights: jax.Array | None) -> Objective:
    """Cross entropy over the labels [B], or over the tokens with a label [B, S], each weighted by its class and
    divided by the sum of the weights (as torch does)."""

    def counted(batch: Batch) -> jax.Array:
        labels = batch["labels"]
        return (labels != IGNORED) * batch["weights"].reshape(-1, *[1] * (labels.ndim - 1))

    def weighted(batch: Batch) -> jax.Array:
        weights = counted(batch)
        return weights if class_weights is None else weights * class_weights[jnp.maximum(batch["labels"], 0)]

    def sums(output, batch: Batch) -> Values:
        labels = jnp.maximum(batch["labels"], 0)
        loss, _ = weighted_cross_entropy(output.logits, labels, weighted(batch))
        _, hits = weighted_cross_entropy(output.logits, labels, counted(batch))
        return {"loss": loss, "hits": hits}

    return mean(lambda batch: {"loss": jnp.sum(weighted(batch)), "hits": jnp.sum(counted(batch))}, sums)


def multi_label(class_weights: jax.Array | None, positive_weights: jax.Array | None = None) -> Objective:
    """Binary cross entropy of every label on its own, labels float32 [B, C]; hits are single decisions.

    class_weights [C]: of a label among the others. positive_weights [C]: ``pos_weight`` of torch's BCEWithLogitsLoss,
    which divides by the number of decisions, too.
    """

    def per_label(batch: Batch) -> jax.Array:
        ones = jnp.ones_like(batch["labels"]) * batch["weights"][:, None]
        return ones if class_weights is None else ones * class_weights[None, :]

    def sums(output, batch: Batch) -> Values:
        logits, labels = output.logits, batch["labels"]
        losses = jax.nn.softplus(logits) - logits * labels
        if positive_weights is not None:
            losses *= 1 + labels * (positive_weights - 1)[None, :]
        hits = (logits > 0) == (labels > 0.5)
        return {"loss": jnp.sum(losses * per_label(batch)), "hits": jnp.sum(hits * batch["weights"][:, None])}

    def weights(batch: Batch) -> Values:
        return {"loss": jnp.sum(per_label(batch)), "hits": jnp.sum(batch["weights"]) * batch["labels"].shape[1]}

    return mean(weights, sums)


def regression() -> Objective:
    """The squared error of the one output, labels float32 [B]."""

    def sums(output, batch: Batch) -> Values:
        return {"loss": jnp.sum(jnp.square(output.logits[:, 0] - batch["labels"]) * batch["weights"])}

    return mean(lambda batch: {"loss": jnp.sum(batch["weights"])}, sums)


def answering() -> Objective:
    """The mean of the cross entropies of first and last token over the row's tokens; labels int [B, 2]."""

    def sums(output, batch: Batch) -> Values:
        logits = jnp.where(batch["example_ids"][:, :, None] > 0, output.logits, NOWHERE).transpose(0, 2, 1)
        weights = jnp.broadcast_to(batch["weights"][:, None], batch["labels"].shape)
        loss, hits = weighted_cross_entropy(logits, batch["labels"], weights)
        return {"loss": loss, "hits": hits}

    return mean(lambda batch: dict.fromkeys(("loss", "hits"), 2.0 * jnp.sum(batch["weights"])), sums)


def contrastive(temperature: float, per_pair: int = 2) -> Objective:
    """A text should be closer to its partner than to the other texts of the batch, and all negatives.

    Cross entropy over the cosines by ``temperature`` (Henderson et al. 2017; van den Oord et al. 2018), from the first
    texts to the second and the negatives, and from the second to the first. Rivals of a text exclude those that are
    equal to it, or paired with it by a pair of the batch.
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
        ways = ((cosines, is_rival), (cosines[:, :pairs].T, back))
        found = [weighted_cross_entropy(jnp.where(kept, x, NOWHERE), own, weights[0::per_pair]) for x, kept in ways]
        return {"loss": found[0][0] + found[1][0], "hits": found[0][1] + found[1][1]}

    # Each pair counts twice.
    weights = lambda batch: dict.fromkeys(("loss", "hits"), 2.0 * jnp.sum(batch["weights"][0::per_pair]))
    return mean(weights, sums, adds_up=False)


def _belongs(texts: jax.Array, weights: jax.Array, others: list[slice], per_pair: int) -> jax.Array:
    """bool [P, P * (per_pair - 1)]: candidates, other than its partner, that are not rivals of a first text, and places
    without a text."""
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

    return mean(lambda batch: {"loss": jnp.max(batch["weights"])}, sums, adds_up=False)


def _unit(vectors: jax.Array) -> jax.Array:
    """Of length 1; what is 0, such as the vector of a row without tokens, stays so and has a gradient."""
    squares = jnp.sum(jnp.square(vectors), axis=1, keepdims=True)
    return vectors / jnp.sqrt(jnp.maximum(squares, 1e-24))


def mean(weights: Callable[[Batch], Values], sums, adds_up: bool = True) -> Objective:
    """The objective whose loss and accuracy are the sums "loss" and "hits" over the weights of these names."""
    divided = lambda sums, weights, name: sums[name] / jnp.maximum(weights[name], 1e-9)

    def means(sums: Values, weights: Values) -> Values:
        return {"accuracy": divided(sums, weights, "hits")} if "hits" in sums else {}

    return Objective(weights, sums, lambda sums, weights: divided(sums, weights, "loss"), means, adds_up)
