"""Which checkpoints of a run are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from bertjax.config import CheckpointConfig


class Saved(NamedTuple):
    """What of a checkpoint decides whether it is kept. loss: on held-out data, None if it was not evaluated; of
    phases that read rows of other lengths losses cannot be compared."""

    loss: float | None = None
    phase: int = 0


def kept_steps(saved: Mapping[int, Saved], config: CheckpointConfig) -> set[int]:
    """Of the steps there are: the last ``keep``, every ``keep_every_steps``-th, and of each phase the ``keep_best``
    with the lowest loss."""
    steps = sorted(saved)
    kept = set(steps[-config.keep :])
    if config.keep_every_steps:
        kept |= {step for step in steps if step % config.keep_every_steps == 0}
    for phase in {one.phase for one in saved.values()}:
        evaluated = [
            (one.loss, step)
            for step, one in saved.items()
            if one.phase == phase and one.loss is not None and math.isfinite(one.loss)
        ]
        kept |= {step for _, step in sorted(evaluated)[: config.keep_best]}
    return kept
