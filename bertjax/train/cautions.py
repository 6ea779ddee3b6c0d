"""What a config may say but hardly means, a line each with the way out; said at the start and kept in the log."""

from __future__ import annotations

from collections.abc import Iterator

from jax.sharding import Mesh

from bertjax.config import RunConfig, most_predictions
from bertjax.parallel.mesh import batch_shards, one_of
from bertjax.train.job import most_rows, parts_of


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


def in_parts(rows: int, most: int, sizes: list[int]) -> str:
    """How a device does its rows of a batch, in words; ``most`` and ``sizes``: of ``better_sizes``."""
    parts = parts_of(rows, most)
    each = rows // parts
    return (
        f"{parts} parts of {each} row{'s' * (each != 1)} a device, though {most} would fit: {rows} has no divisor near"
    )


def better_sizes(rows: int, most: int) -> tuple[int, list[int]] | None:
    """(``most``, the nearest numbers of rows below and above that are done in about as few parts as can be), where
    ``rows`` are done in at least twice as many; else None."""
    most = max(1, most)
    good = lambda n: parts_of(n, most) < 2 * -(-n // most)
    if good(rows):
        return None
    below = next(n for n in range(rows, 0, -1) if good(n))
    return most, [below, next(n for n in range(rows, 2 * rows + most + 1) if good(n))]
