"""What a step minimises: sums over examples, and the weights that divide them. Arrays only."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from bertjax.batch import Batch, Objective, Values
from bertjax.objectives import mlm_nsp
from bertjax.objectives.objective import CrossEntropy
from bertjax.objectives.registry import objectives
from bertjax.objectives.vocabulary_loss import vocabulary_cross_entropy


def weighted_cross_entropy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """logits float32 [..., C], labels int [...], weights float [...] -> (sum of losses in nats, sum of hits), scalars.
    The loss of one place is logsumexp(logits) - logits[label]; a hit is a label with no logit above its own."""
    logits = logits.astype(jnp.float32)
    # A comparison fuses into the passes of the logsumexp; a gather, and the scatter of its gradient, would be more.
    is_label = jnp.asarray(labels)[..., None] == jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    at_label = jnp.where(is_label, logits, 0.0).sum(axis=-1)
    losses = jax.nn.logsumexp(logits, axis=-1) - at_label
    # The maximum is there already, for the logsumexp; argmax would be another pass over the vocabulary.
    hits = (at_label >= logits.max(axis=-1)).astype(jnp.float32)
    return jnp.sum(losses * weights), jnp.sum(hits * weights)


def _cross_entropy(output: Any, name: str, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As ``weighted_cross_entropy``, of the outputs with this name; without their logits where it can do so."""
    projection = getattr(output, "projections", {}).get(name)
    if projection is not None:
        return vocabulary_cross_entropy(projection, labels, weights)
    return weighted_cross_entropy(getattr(output, name), labels, weights)


def objective_of(losses: Sequence[CrossEntropy]) -> Objective:
    """The sum of mean cross entropies; sums and means are named NAME_loss, NAME_hits and NAME_loss, NAME_accuracy."""

    def weights(batch: Batch) -> Values:
        return {loss.name: jnp.sum(batch[loss.weights]) for loss in losses}

    def sums(output: Any, batch: Batch) -> Values:
        found = {}
        for loss in losses:
            of_loss = _cross_entropy(output, loss.logits, batch[loss.labels], batch[loss.weights])
            found |= dict(zip((f"{loss.name}_loss", f"{loss.name}_hits"), of_loss, strict=True))
        return found

    def means(sums: Values, weights: Values) -> Values:
        found = {}
        for loss in losses:
            divisor = weights[loss.name]
            divisor = divisor + loss.epsilon if loss.epsilon else divisor
            divisor = jnp.maximum(divisor, loss.least) if loss.least else divisor
            mean, accuracy = loss.fields
            found |= {mean: sums[mean] / divisor, accuracy: sums[f"{loss.name}_hits"] / divisor}
        return found

    def total(sums: Values, weights: Values) -> jax.Array:
        found = means(sums, weights)
        return functools.reduce(jnp.add, [found[loss.fields[0]] for loss in losses])

    return Objective(weights, sums, total, means)


@functools.cache  # equal losses give the same object, which others keep results by
def loss_of(losses: tuple[CrossEntropy, ...]) -> Callable[[Any, Batch], jax.Array]:
    """``(output of the model, batch) -> scalar``: the total of an objective."""
    objective = objective_of(losses)
    return lambda output, batch: objective.total(objective.sums(output, batch), objective.weights(batch))


# Masked LM and next sentences.
PRETRAINING = objective_of(mlm_nsp.OBJECTIVE.losses)


def batch_loss(output: Any, batch: Batch) -> jax.Array:
    """The loss of a batch of ``mlm`` or ``mlm_nsp``, scalar; ``output`` as the model returns it."""
    return PRETRAINING.total(PRETRAINING.sums(output, batch), PRETRAINING.weights(batch))


def pretraining_loss(output: Any, batch: Batch) -> tuple[jax.Array, Values]:
    """The loss of a batch and its parts, for ``jax.value_and_grad(..., has_aux=True)``.

    output: ``model.on_batch(batch)``. Returns the sum of the losses of the objective that the batch was made for, and
    their means: mlm_loss, mlm_accuracy, nsp_loss, nsp_accuracy or sop_loss, sop_accuracy. Raises ValueError for the
    output of a model without heads, or of another call.
    """
    if output.mlm_logits is None or output.mlm_logits.shape[:2] != batch["masked_lm_ids"].shape:
        raise ValueError("output must be model.on_batch(batch), of a model made with for_pretraining=True")
    losses = next((one.losses for one in objectives() if set(one.maker.fields) <= set(batch)), None)
    if losses is None:
        raise ValueError(f"no objective has batches of only {', '.join(batch)}")
    objective = objective_of(losses)
    sums, weights = objective.sums(output, batch), objective.weights(batch)
    return objective.total(sums, weights), objective.means(sums, weights)
