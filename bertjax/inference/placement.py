"""Where batches are computed: on one device, or on a mesh that shards the parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Placement:
    """shards: parts that the rows of a batch are divided into. put: a whole batch on the host -> on the devices; all
    processes of a run call it with the same batches in the same order. get: results for all rows of a batch ->
    NumPy."""

    shards: int = 1
    put: Callable[[dict[str, np.ndarray]], Any] = lambda batch: batch
    get: Callable[[Any], Any] = jax.device_get

    def rows(self, per_shard: int) -> int:
        """Rows of a batch with that many for each shard, at least one."""
        return max(1, per_shard) * self.shards


ONE_DEVICE = Placement()
