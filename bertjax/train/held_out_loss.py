"""Held-out evaluation: one pass with fixed masks, beside the unigram baseline on the very same positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.engine.fit import Interrupted
from bertjax.inference.batches import Placement
from bertjax.objectives.losses import MLM_WEIGHT_EPSILON
from bertjax.objectives.unigram import unigram_sums
from bertjax.parallel.mesh import batch_shards
from bertjax.parallel.sharding import process_rows, to_global


def over(mesh: Mesh, stop: Callable[[], bool] = lambda: False) -> Placement:
    """Batches divided over the mesh, of which each process places its own rows.

    stop: asked before every batch, in all processes, which must all answer alike; ``put`` raises Interrupted where it
    says so.
    """
    replicate = jax.jit(lambda results: results, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def put(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        if stop():
            raise Interrupted
        own = process_rows(len(next(iter(batch.values()))), mesh)
        return to_global({name: field[own] for name, field in batch.items()}, mesh)

    def get(results: Any) -> Any:
        here = all(x.is_fully_addressable for x in jax.tree.leaves(results))
        return jax.device_get(results if here else replicate(results))

    return Placement(batch_shards(mesh), put, get)


def evaluate(
    eval_step: Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]],
    params: Any,
    batches: Iterable[dict[str, np.ndarray]],
    to_device: Callable[[dict[str, np.ndarray]], dict[str, jax.Array]],
    unigram: np.ndarray,
) -> dict[str, float]:
    """mlm_loss, mlm_accuracy, nsp_loss, nsp_accuracy, nsp_chance, nsp_pairs, nsp_next_share, unigram_loss over all
    batches.

    unigram: log probabilities [V]. nsp_chance: the accuracy of always naming the commoner label; nsp_pairs,
    nsp_next_share: how many pairs that is of, and the share of real next ones among them. The nsp values are left out
    where no pair has a label, and all but the last two where all have the same one: to name that is no achievement.
    Raises whatever ``to_device`` does.
    """
    totals: dict[str, float] = {}
    unigram_total, labels = 0.0, np.zeros(2)
    for batch in batches:
        sums = eval_step(params, to_device(batch))
        unigram_total += unigram_sums(unigram, batch)
        weights = batch["next_sentence_weights"]
        labels += [(weights * (batch["next_sentence_labels"] == label)).sum() for label in (0, 1)]
        for name, value in jax.device_get(sums).items():
            totals[name] = totals.get(name, 0.0) + float(value)
    masked = totals["mlm_weight"] + MLM_WEIGHT_EPSILON
    result = {
        "mlm_loss": totals["mlm_loss"] / masked,
        "mlm_accuracy": totals["mlm_hits"] / masked,
        "unigram_loss": unigram_total / masked,
    }
    if labels.any():
        result |= {"nsp_pairs": float(labels.sum()), "nsp_next_share": float(labels[0] / labels.sum())}
    if labels.all():
        result["nsp_loss"] = totals["nsp_loss"] / totals["nsp_weight"]
        result["nsp_accuracy"] = totals["nsp_hits"] / totals["nsp_weight"]
        result["nsp_chance"] = float(labels.max() / labels.sum())
    result["loss"] = result["mlm_loss"] + result.get("nsp_loss", 0.0)
    return result


def evaluation_line(step: int, phase: str, values: dict[str, float]) -> str:
    """A held-out evaluation in words."""
    line = (
        f"held out at step {step} ({phase}): mlm loss {values['mlm_loss']:.3f} (unigram {values['unigram_loss']:.3f}), "
        f"mlm accuracy {values['mlm_accuracy']:.1%}"
    )
    if "nsp_accuracy" in values:
        line += f", nsp accuracy {values['nsp_accuracy']:.1%} (chance {chance_in_words(values)})"
    elif values.get("nsp_pairs"):
        line += f", nsp accuracy not scored ({chance_in_words(values)})"
    return line


def chance_in_words(values: Mapping[str, Any]) -> str:
    """``nsp_chance`` and what is behind it; without a chance only that."""
    behind = f"of {values['nsp_pairs']:,.0f} pairs, {values['nsp_next_share']:.1%} of them real next ones"
    return behind if values.get("nsp_chance") is None else f"{values['nsp_chance']:.1%} {behind}"
