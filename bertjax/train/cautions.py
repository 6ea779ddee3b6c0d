"""What a config may say but hardly means, a line each with the way out; said at the start and kept in the log."""

from __future__ import annotations

from collections.abc import Iterator

from jax.sharding import Mesh

from bertjax.config import RunConfig, most_predictions
from bertjax.engine.split import better_sizes, in_parts
from bertjax.parallel.mesh import batch_shards, one_of
from bertjax.train.job import most_rows


def cautions(run: RunConfig, mesh: Mesh) -> list[str]:
    """All of a pretraining run."""
    return [*config_cautions(run), *split_cautions(run, mesh)]


def config_cautions(run: RunConfig) -> list[str]:
    """A line for each key whose value says what is hardly meant."""
    return [*_caps_that_bite(run), *_warmups_without_end(run)]


def _caps_that_bite(run: RunConfig) -> Iterator[str]:
    prob = run.data.masked_lm_prob
    for name, phase in run.phases.items():
        needed = most_predictions(prob, phase.sequence_length)
        if phase.max_predictions < needed:
            yield (
                f"config.phases.{name}.max_predictions = {phase.max_predictions} masks at most "
                f"{phase.max_predictions / phase.sequence_length:.1%} of {phase.sequence_length} tokens, not "
                f"config.data.masked_lm_prob = {prob:.4g}; leave it out, or use "
                f"--config.phases.{name}.max_predictions={needed}"
            )


def _warmups_without_end(run: RunConfig) -> Iterator[str]:
    one = run.optimizer.schedule_span == "run"
    for index, (name, phase) in enumerate(run.phases.items()):
        steps = run.total_steps if one else phase.steps
        if (index == 0 or not one) and steps and (phase.warmup_steps or 0) >= steps:
            yield (
                f"config.phases.{name}.warmup_steps = {phase.warmup_steps} is no less than the {steps} steps of its "
                f"schedule: the rate only rises, and does not reach {phase.learning_rate:g}; a tenth of them would be "
                f"--config.phases.{name}.warmup_steps={steps // 10}"
            )


def split_cautions(run: RunConfig, mesh: Mesh) -> list[str]:
    """A line for each phase whose batch has no divisor near what fits, with batch sizes that have one."""
    shards, lines = batch_shards(mesh), []
    for name, phase in run.phases.items():
        rows = phase.batch_size // shards
        better = better_sizes(rows, most_rows(run, phase, mesh))
        if better:
            lines.append(
                f"config.phases.{name}.batch_size = {phase.batch_size} is done in {in_parts(rows, *better)}; "
                f"{one_of([n * shards for n in better[1]])} would be done in fewer"
            )
    return lines
