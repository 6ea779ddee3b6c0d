"""Axes of a chart: a range with round ends, ticks, and where values lie on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# A range over more than this factor is drawn on a logarithmic axis, where the quantity allows one.
_LOG_FACTOR = 30.0
_INTERVALS = 5


@dataclass(frozen=True)
class Axis:
    """From ``low`` to ``high``, in the quantity's own unit. ``log``: equal ratios are equal lengths."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def place(self, values: np.ndarray) -> np.ndarray:
        """Where values lie between the ends, 0 to 1."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        return ((np.log10(values) if self.log else values) - low) / (high - low)

    def decimals(self, factor: float) -> int:
        """Decimals that tell neighbouring ticks apart, once multiplied by ``factor``."""
        step = (self.ticks[1] - self.ticks[0]) * factor if len(self.ticks) > 1 else 1.0
        return max(0, -math.floor(math.log10(step) + 1e-9))


def step_axis(last: int) -> Axis:
    """Steps from 0 to the last one, which need be no tick."""
    last = max(last, 1)
    step = max(1.0, _round_step(last / _INTERVALS))
    return Axis(0.0, float(last), False, tuple(np.arange(0, last * (1 + 1e-9), step).tolist()))


def value_axis(values: np.ndarray, from_zero: bool, may_be_log: bool) -> Axis:
    """An axis for finite values, at least one."""
    low, high = float(values.min()), float(values.max())
    if may_be_log and low > 0 and high / low > _LOG_FACTOR:
        return _log_axis(low, high)
    if from_zero and low > 0:
        low = 0.0
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = abs(high) * 0.1 or 1.0
        low, high = (low if from_zero and low == 0 else low - margin), high + margin
    step = _round_step((high - low) / _INTERVALS)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    ticks = tuple(round(index * step, 12) if step > 1e-9 else index * step for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], False, ticks)


def _log_axis(low: float, high: float) -> Axis:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = math.ceil((last - first) / _INTERVALS)
    return Axis(10.0**first, 10.0**last, True, tuple(10.0**power for power in range(first, last + 1, stride)))


def _round_step(rough: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is not under ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
