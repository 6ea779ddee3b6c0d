"""The objectives by name: the files of this folder that define ``OBJECTIVE``."""

import importlib
import pkgutil
from collections.abc import Iterator

import bertjax.objectives
from bertjax.config import RunConfig
from bertjax.data.stream.settings import ORDER, ExampleSettings
from bertjax.errors import ConfigError
from bertjax.objectives.objective import PretrainingObjective


def objectives() -> Iterator[PretrainingObjective]:
    """All of them, by name."""
    yield from filter(None, map(_objective_in, _files()))


def find_objective(name: str) -> PretrainingObjective:
    """Raises ConfigError, with the names that there are, for another one."""
    found = _objective_in(name) if name in _files() else None
    if found is None:
        allowed = ", ".join(objective.name for objective in objectives())
        raise ConfigError(f"config.data.objective = {name!r}; allowed: {allowed}")
    return found


def run_objective(run: RunConfig) -> PretrainingObjective:
    """The objective of a run. Raises ConfigError where there is none, or none for this model."""
    objective = find_objective(run.data.objective)
    if objective.cautions and run.model.type_vocab_size < 2:
        raise ConfigError(f"config.model.type_vocab_size must be 2 for config.data.objective = {objective.name!r}")
    return objective


def phase_settings(run: RunConfig, phase_index: int, order: int = ORDER) -> ExampleSettings:
    """How phase number ``phase_index`` (order of ``run.phases``) makes examples, by version ``order`` of the rules."""
    phase = list(run.phases.values())[phase_index]
    return ExampleSettings(
        find_objective(run.data.objective).maker,
        sequence_length=phase.sequence_length,
        max_predictions=phase.max_predictions,
        max_examples_per_row=run.data.max_examples_per_row if run.data.packing else 1,
        masked_lm_prob=run.data.masked_lm_prob,
        short_seq_prob=run.data.short_seq_prob,
        whole_word_masking=run.data.whole_word_masking,
        block_tokens=run.data.block_tokens,
        order=order,
    )


def _files() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(bertjax.objectives.__path__)]


def _objective_in(name: str) -> PretrainingObjective | None:
    return getattr(importlib.import_module(f"bertjax.objectives.{name}"), "OBJECTIVE", None)
