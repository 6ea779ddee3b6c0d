"""Evaluation while a run trains: on its mesh, and on the suites that its config gives data for."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.config import EvaluationConfig, ModelConfig
from bertjax.engine.fit import Interrupted
from bertjax.evaluation import suite_named
from bertjax.evaluation.suite import checked_options
from bertjax.inference.batches import Placement
from bertjax.model.bert import Bert
from bertjax.parallel.mesh import batch_shards
from bertjax.parallel.sharding import process_rows, to_global
from bertjax.text.tokenizer import Tokenizer

SECTIONS = ("mlm", "blimp", "sts")  # of config.evaluation, named like their suites


def over(mesh: Mesh, stop: Callable[[], bool] = lambda: False) -> Placement:
    """Batches divided over the mesh, of which each process places its own rows. stop: asked before every batch, in all
    processes, which must all answer alike; ``put`` raises Interrupted if it says so."""
    replicate = jax.jit(lambda results: results, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def put(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        if stop():
            raise Interrupted
        own = process_rows(len(next(iter(batch.values()))), mesh)
        return to_global({name: field[own] for name, field in batch.items()}, mesh)

    def get(results: Any) -> Any:
        here = all(x.is_fully_addressable or x.is_fully_replicated for x in jax.tree.leaves(results))
        return jax.device_get(results if here else replicate(results))

    return Placement(batch_shards(mesh), put, get)


class InlineSuites:
    """The suites of a run. cautions: about their data, a line each."""

    def __init__(self, settings: EvaluationConfig, tokenizer: Tokenizer, model: ModelConfig) -> None:
        """Reads the data of all suites, before anything is compiled. Raises DataError, ConfigError."""
        self._tokenizer = tokenizer
        shapes = nnx.eval_shape(lambda: Bert(model, nnx.Rngs(0)))
        self._suites = []
        self.cautions: list[str] = []
        for name in SECTIONS:
            own = getattr(settings, name)
            if own.data is not None:
                suite = suite_named(name)
                options = checked_options(name, suite.OPTIONS, {"limit": own.limit or None})
                examples, warnings = suite.read(own.data, tokenizer, shapes, options)
                self.cautions += [f"{name}: {line}" for line in warnings]
                self._suites.append((name, own.every_steps, suite, examples, options))

    def due(self, step: int) -> bool:
        """Whether a suite is due after ``step`` updates; all are due at the end of a phase."""
        return any(every and step % every == 0 for _, every, *_ in self._suites)

    def scores(self, step: int, phase_ends: bool, model: Callable[[], Bert], placement: Placement) -> dict[str, float]:
        """The scores of all suites that are due, by suite and name, such as blimp.accuracy.

        model: makes it, with its parameters on the devices of ``placement``; called only if a suite is due. All
        processes of a run call this together and get the same scores.
        """
        due = [one for one in self._suites if phase_ends or (one[1] and step % one[1] == 0)]
        scored, found = model() if due else None, {}
        for name, _, suite, examples, options in due:
            silent = lambda stage, done, total: None
            result = suite.score(scored, self._tokenizer, examples, options, silent, placement=placement)
            found |= {f"{name}.{score}": measure.value for score, measure in result.scores.items()}
        return found


def in_words(scores: dict[str, float]) -> str:
    """Scores for the end of a line: nothing, or with a comma before each."""
    return "".join(f", {name.replace('.', ' ').replace('_', ' ')} {value:.4g}" for name, value in scores.items())
