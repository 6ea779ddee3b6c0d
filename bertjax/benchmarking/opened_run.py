"""A config with its corpus, opened for a measurement."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from bertjax.cli.progress import Display
from bertjax.config import RunConfig
from bertjax.data.corpus.arrays import PreparedCorpus
from bertjax.errors import ConfigError
from bertjax.train.open_corpus import open_corpus, settled


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
