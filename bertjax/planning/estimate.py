"""Step time, days and cost, from the work of a program and the rates of a chip."""

from __future__ import annotations

from dataclasses import dataclass

from bertjax.parallel.devices import Chip

# What the slow end of the range assumes: shares of the bfloat16 peak, and of the bandwidths of memory and links, that
# plain programs reach (published BERT runs have 20 to 50 % of the peak).
PEAK_SHARE, BANDWIDTH_SHARE = 0.35, 0.7
ASSUMED = f"{PEAK_SHARE:.0%} of the peak, {BANDWIDTH_SHARE:.0%} of the bandwidths, no communication hidden"
SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step by each resource at full rates. ``low``: the roofline, the slowest; ``high``: ``ASSUMED``."""

    compute: float
    memory: float
    communication: float

    @property
    def low(self) -> float:
        return max(self.compute, self.memory, self.communication)

    @property
    def high(self) -> float:
        return max(self.compute / PEAK_SHARE, self.memory / BANDWIDTH_SHARE) + self.communication / BANDWIDTH_SHARE

    @property
    def bound(self) -> str:
        """The slowest resource."""
        return max(("compute", "memory", "communication"), key=lambda name: getattr(self, name))


def step_time(chip: Chip, flops: float, bytes_accessed: float, bytes_sent: float) -> StepTime:
    """The work is that of one device in one step."""
    return StepTime(flops / chip.flops, bytes_accessed / chip.bandwidth, bytes_sent / chip.interconnect)


@dataclass(frozen=True)
class Totals:
    """For the whole run, each as (low, high)."""

    days: tuple[float, float]
    chip_hours: tuple[float, float]
    cost: tuple[float, float] | None


def totals(seconds: tuple[float, float], chips: float, price: float | None) -> Totals:
    """seconds: for all steps of all phases, (low, high); price: for one chip and hour."""
    low, high = seconds
    hours = low / 3600 * chips, high / 3600 * chips
    cost = None if price is None else (hours[0] * price, hours[1] * price)
    return Totals((low / SECONDS_PER_DAY, high / SECONDS_PER_DAY), hours, cost)
