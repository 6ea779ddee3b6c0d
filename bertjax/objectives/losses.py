"""What a step minimises, and the two pretraining losses: sums over examples, and the weights that divide them.

Arrays only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

# Added to the number of masked tokens (google-research/bert run_pretraining.py, get_masked_lm_output).
MLM_WEIGHT_EPSILON = 1e-5

Batch = dict[str, jax.Array]
Values = dict[str, jax.Array]  # scalars by name


@dataclass(frozen=True)
class Objective:
    """A loss as functions, so that it does not depend on how a batch is split.

    weights(batch): what the sums of a whole (global) batch are divided by. sums(output, batch): of any part of it;
    those of the parts add up. total(sums, weights): the loss, linear in ``sums``. means(sums, weights): the values
    that are recorded.
    """

    weights: Callable[[Batch], Values]
    sums: Callable[[Any, Batch], Values]
    total: Callable[[Values, Values], jax.Array]
    means: Callable[[Values, Values], Values]


def weighted_cross_entropy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """logits float32 [..., C], labels int [...], weights float [...] -> (sum of losses in nats, sum of hits), scalars.

    The loss of one place is logsumexp(logits) - logits[label]; a hit is a label with no logit above its own.
    """
    logits = logits.astype(jnp.float32)
    at_label = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - at_label
    # The maximum is there already, for the logsumexp; argmax would be another pass over the vocabulary.
    hits = (at_label >= logits.max(axis=-1)).astype(jnp.float32)
    return jnp.sum(losses * weights), jnp.sum(hits * weights)


def batch_weights(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """What the sums of a (global) batch are divided by: masked tokens and labelled pairs in it."""
    return {
        "mlm": jnp.sum(batch["masked_lm_weights"]),
        "nsp": jnp.sum(batch["next_sentence_weights"]),
    }


def pretraining_sums(output, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Sums over the rows of ``batch``: mlm_loss, mlm_hits, nsp_loss, nsp_hits. ``output`` as the model returns it."""
    mlm_loss, mlm_hits = weighted_cross_entropy(output.mlm_logits, batch["masked_lm_ids"], batch["masked_lm_weights"])
    nsp_loss, nsp_hits = weighted_cross_entropy(
        output.nsp_logits, batch["next_sentence_labels"], batch["next_sentence_weights"]
    )
    return {"mlm_loss": mlm_loss, "mlm_hits": mlm_hits, "nsp_loss": nsp_loss, "nsp_hits": nsp_hits}


def total_loss(sums: dict[str, jax.Array], weights: dict[str, jax.Array]) -> jax.Array:
    """mlm_loss + nsp_loss, each the mean over the global batch that ``weights`` describe.

    Linear in ``sums``: those of parts of the batch add up to that of the whole.
    """
    means = mean_metrics(sums, weights)
    return means["mlm_loss"] + means["nsp_loss"]


def mean_metrics(sums: dict[str, jax.Array], weights: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """mlm_loss, mlm_accuracy, nsp_loss, nsp_accuracy of the batch; the nsp ones are 0 where there are no labels."""
    masked = weights["mlm"] + MLM_WEIGHT_EPSILON
    pairs = jnp.maximum(weights["nsp"], 1.0)
    return {
        "mlm_loss": sums["mlm_loss"] / masked,
        "mlm_accuracy": sums["mlm_hits"] / masked,
        "nsp_loss": sums["nsp_loss"] / pairs,
        "nsp_accuracy": sums["nsp_hits"] / pairs,
    }


PRETRAINING = Objective(batch_weights, pretraining_sums, total_loss, mean_metrics)


def batch_loss(output, batch: Batch) -> jax.Array:
    """The loss of a batch, scalar; ``output`` as the model returns it."""
    return total_loss(pretraining_sums(output, batch), batch_weights(batch))


def pretraining_loss(output, batch: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of a batch and its parts, for ``jax.value_and_grad(..., has_aux=True)``.

    output: ``model.on_batch(batch)``. Returns the scalar mlm_loss + nsp_loss, means over the batch, and the four
    values of ``mean_metrics``. Raises ValueError for the output of a model without heads, or of another call.
    """
    if output.mlm_logits is None or output.mlm_logits.shape[:2] != batch["masked_lm_ids"].shape:
        raise ValueError("output must be model.on_batch(batch), of a model made with for_pretraining=True")
    sums, weights = pretraining_sums(output, batch), batch_weights(batch)
    return total_loss(sums, weights), mean_metrics(sums, weights)
