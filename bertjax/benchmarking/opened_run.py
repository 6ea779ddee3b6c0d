"""A config with its corpus, opened for a measurement."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jax.sharding import Mesh

from bertjax.cli.progress import Display
from bertjax.config import RunConfig
from bertjax.data.corpus.arrays import PreparedCorpus
from bertjax.errors import ConfigError
from bertjax.train.open_corpus import open_corpus, settled
from bertjax.train.pretraining_job import decided_precision


def opened_run(run: RunConfig, say: Callable[[str], None]) -> tuple[RunConfig, PreparedCorpus, dict[str, Any]]:
    """(run as its corpus settles it, corpus, what the result says of the corpus); prepared first where it is not."""
    corpus = open_corpus(run, None, Display(say))
    return settled(run, None, corpus), corpus, {"corpus": list(run.data.corpus)}


def seconds_of(options: Mapping[str, Any]) -> float:
    """How long each phase is to be measured. Raises ConfigError."""
    seconds = options["seconds"]
    if not 0 < seconds < math.inf:
        raise ConfigError(f"--seconds = {seconds} must be above 0, and finite")
    return seconds


def with_decided_precision(run: RunConfig, mesh: Mesh, say: Callable[[str], None]) -> RunConfig:
    """The run with what ``precision = "auto"`` is here in its place, decided as a new run decides it."""
    if run.precision != "auto":
        return run
    name, why = decided_precision(run, mesh)
    say(f"precision: {name} ({why})")
    return replace(run, precision=name)
