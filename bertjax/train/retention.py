"""Which checkpoints of a run are kept."""

from __future__ import annotations

from collections.abc import Mapping

from bertjax.config import CheckpointConfig


def kept_steps(held_out_losses: Mapping[int, float | None], config: CheckpointConfig) -> set[int]:
    """Of the steps there are, each with its held-out loss or None: the last ``keep``, every ``keep_every_steps``-th,
    and the ``keep_best`` with the lowest loss."""
    steps = sorted(held_out_losses)
    kept = set(steps[-config.keep :])
    if config.keep_every_steps:
        kept |= {step for step in steps if step % config.keep_every_steps == 0}
    evaluated = [(loss, step) for step, loss in held_out_losses.items() if loss is not None]
    return kept | {step for _, step in sorted(evaluated)[: config.keep_best]}
