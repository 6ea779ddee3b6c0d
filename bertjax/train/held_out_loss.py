"""Held-out evaluation: one pass with fixed masks, beside the unigram baseline on the very same positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.engine.fit import Interrupted
from bertjax.inference.batches import Placement
from bertjax.objectives.objective import CrossEntropy
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
    losses: Sequence[CrossEntropy],
) -> dict[str, float]:
    """The held-out values of the losses over all batches (``CrossEntropy.held_out``), and their sum as ``loss``.

    unigram: log probabilities [V]. Raises whatever ``to_device`` does.
    """
    totals: dict[str, float] = {}
    for batch in batches:
        found = dict(eval_step(params, to_device(batch)))
        for loss in losses:
            found |= loss.counts(batch, unigram)
        for name, value in jax.device_get(found).items():
            totals[name] = totals.get(name, 0.0) + float(value)
    result: dict[str, float] = {}
    for loss in losses:
        result |= loss.held_out(totals)
    return result | {"loss": sum(result.get(loss.fields[0], 0.0) for loss in losses)}


def evaluation_line(step: int, phase: str, values: dict[str, float], losses: Sequence[CrossEntropy]) -> str:
    """A held-out evaluation in words."""
    return f"held out at step {step} ({phase}): " + ", ".join(filter(None, (loss.brief(values) for loss in losses)))
