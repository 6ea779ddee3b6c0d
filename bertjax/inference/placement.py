"""Where batches are computed: on one device, or divided over many that hold the parameters together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Placement:
    """shards: parts that the rows of a batch are divided into. put: a batch, whole, on the host -> on the devices;
    where several processes compute together, all of them call it with the same batches in the same order. get: results
    of a batch, of all its rows -> NumPy arrays."""

    shards: int = 1
    put: Callable[[dict[str, np.ndarray]], Any] = lambda batch: batch
    get: Callable[[Any], Any] = jax.device_get

    def rows(self, of_a_shard: int) -> int:
        """Rows of a batch in which each shard has so many, one at least."""
        return max(1, of_a_shard) * self.shards


ONE_DEVICE = Placement()
