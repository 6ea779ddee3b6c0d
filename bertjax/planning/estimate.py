"""Step time, days and cost from what a program does and what a chip can do."""

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
    """Seconds of one step at full rates. ``low``: the roofline, the slowest of the three; ``high``: ``ASSUMED``."""

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
        """What the roofline is set by."""
        parts = {"compute": self.compute, "memory": self.memory, "communication": self.communication}
        return max(parts, key=lambda name: parts[name])


def step_time(chip: Chip, flops: float, bytes_accessed: float, bytes_sent: float) -> StepTime:
    """All of one device and one step."""
    return StepTime(flops / chip.flops, bytes_accessed / chip.bandwidth, bytes_sent / chip.interconnect)


@dataclass(frozen=True)
class Totals:
    """Of the whole run, each as (low, high)."""

    days: tuple[float, float]
    chip_hours: tuple[float, float]
    cost: tuple[float, float] | None


def totals(seconds: tuple[float, float], chips: float, price: float | None) -> Totals:
    """seconds: of all steps of all phases; price: of one chip for one hour."""
    hours = tuple(s / 3600 * chips for s in seconds)
    return Totals(
        days=(seconds[0] / SECONDS_PER_DAY, seconds[1] / SECONDS_PER_DAY),
        chip_hours=(hours[0], hours[1]),
        cost=(hours[0] * price, hours[1] * price) if price is not None else None,
    )
