"""What each kind of task minimises; all with ``weights`` [B] of a batch: 1 for a row that counts, 0 for padding."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from bertjax.finetune.batching import IGNORED
from bertjax.objectives.losses import Batch, Objective, Values, weighted_cross_entropy

# A logit that no token of padding may have; see also ``model.heads``.
NOWHERE = -1e30


def classification(class_weights: jax.Array | None) -> Objective:
    """Cross entropy [B, C], each example weighted by its class, divided by the sum of the weights (as torch does)."""

    def weighted(batch: Batch) -> jax.Array:
        weights = batch["weights"]
        return weights if class_weights is None else weights * class_weights[batch["labels"]]

    def sums(output, batch: Batch) -> Values:
        loss, _ = weighted_cross_entropy(output.logits, batch["labels"], weighted(batch))
        _, hits = weighted_cross_entropy(output.logits, batch["labels"], batch["weights"])
        return {"loss": loss, "hits": hits}

    weights = lambda batch: {"loss": jnp.sum(weighted(batch)), "hits": jnp.sum(batch["weights"])}
    return mean(weights, sums)


def multi_label(class_weights: jax.Array | None, positive_weights: jax.Array | None = None) -> Objective:
    """Binary cross entropy of every label on its own, labels float32 [B, C]; hits are single decisions.

    class_weights [C]: of a label among the others. positive_weights [C]: of what has a label, against what has it not
    (``pos_weight`` of torch's BCEWithLogitsLoss, which divides by the number of decisions, too).
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
        return {
            "loss": jnp.sum(losses * per_label(batch)),
            "hits": jnp.sum(hits * batch["weights"][:, None]),
        }

    def weights(batch: Batch) -> Values:
        return {
            "loss": jnp.sum(per_label(batch)),
            "hits": jnp.sum(batch["weights"]) * batch["labels"].shape[1],
        }

    return mean(weights, sums)


def regression(class_weights: None) -> Objective:
    """The squared error of the one output, labels float32 [B]."""
    del class_weights

    def sums(output, batch: Batch) -> Values:
        return {"loss": jnp.sum(jnp.square(output.logits[:, 0] - batch["labels"]) * batch["weights"])}

    return mean(lambda batch: {"loss": jnp.sum(batch["weights"])}, sums)


def tagging(class_weights: jax.Array | None) -> Objective:
    """Cross entropy over all tokens of the batch that have a label [B, S]."""

    def counted(batch: Batch) -> jax.Array:
        return (batch["labels"] != IGNORED) * batch["weights"][:, None]

    def weighted(batch: Batch) -> jax.Array:
        weights = counted(batch)
        return weights if class_weights is None else weights * class_weights[jnp.maximum(batch["labels"], 0)]

    def sums(output, batch: Batch) -> Values:
        labels = jnp.maximum(batch["labels"], 0)
        loss, _ = weighted_cross_entropy(output.logits, labels, weighted(batch))
        _, hits = weighted_cross_entropy(output.logits, labels, counted(batch))
        return {"loss": loss, "hits": hits}

    return mean(lambda batch: {"loss": jnp.sum(weighted(batch)), "hits": jnp.sum(counted(batch))}, sums)


def answering(class_weights: None) -> Objective:
    """The mean of the cross entropies of first and last token over the row's tokens; labels int [B, 2]."""
    del class_weights

    def sums(output, batch: Batch) -> Values:
        logits = jnp.where(batch["example_ids"][:, :, None] > 0, output.logits, NOWHERE).transpose(0, 2, 1)
        weights = jnp.broadcast_to(batch["weights"][:, None], batch["labels"].shape)
        loss, hits = weighted_cross_entropy(logits, batch["labels"], weights)
        return {"loss": loss, "hits": hits}

    return mean(lambda batch: dict.fromkeys(("loss", "hits"), 2.0 * jnp.sum(batch["weights"])), sums)


def mean(weights: Callable[[Batch], Values], sums) -> Objective:
    """The objective whose loss and accuracy are the sums "loss" and "hits" over the weights of these names."""
    divided = lambda sums, weights, name: sums[name] / jnp.maximum(weights[name], 1e-9)

    def means(sums: Values, weights: Values) -> Values:
        return {"accuracy": divided(sums, weights, "hits")} if "hits" in sums else {}

    return Objective(weights, sums, lambda sums, weights: divided(sums, weights, "loss"), means)
