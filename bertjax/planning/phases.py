"""One phase of a run on a set of devices: memory, the rows that fit, work and time of a step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh

from bertjax.config import RunConfig
from bertjax.model.flops import train_flops_per_row
from bertjax.parallel.devices import Chip, chip_of, memory_limit
from bertjax.planning.programs import Analysis, Split, lower_step, split_of, state_bytes
from bertjax.train.pretraining_job import make_job, rows_by_memory

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


# ``(what it is, lowered program, quick) -> analysis``
Compile = Callable[[str, Any, bool], Analysis]
MOST_HALVINGS = 6  # of the number of rows, in search of a program that fits
MOST_TIMES = 128  # the rows of the first program that the second may have: compilers are slow with huge arrays


@dataclass(frozen=True)
class PhasePlan:
    """Bytes are those of one device; FLOPs and bytes accessed those of a step on all devices."""

    phase: str
    steps: int
    batch_size: int
    sequence_length: int
    split: Split
    parameters: int
    optimizer: int
    total: int
    limit: int
    largest_rows: int
    flops: float | None  # None where no program of the phase compiles
    flops_formula: float
    bytes_accessed: float | None
    collectives: tuple[dict[str, Any], ...]
    time: StepTime | None  # None where the device's rates are not known

    @property
    def fits(self) -> bool:
        return self.total <= self.limit

    @property
    def step_seconds(self) -> tuple[float, float] | None:
        return (self.time.low, self.time.high) if self.time else None

    def to_json(self) -> dict[str, Any]:
        """The phase's part of ``plan --json``."""
        return {
            **{name: getattr(self, name) for name in ("phase", "steps", "batch_size", "sequence_length")},
            "rows_per_device": self.split.rows,
            "accumulation": self.split.accumulation,
            "largest_rows_per_device": self.largest_rows,
            "fits": self.fits,
            "memory": {
                "parameters": self.parameters,
                "optimizer": self.optimizer,
                "temporaries": self.total - self.parameters - self.optimizer,
                "total": self.total,
                "limit": self.limit,
            },
            **{name: getattr(self, name) for name in ("flops", "flops_formula", "bytes_accessed")},
            "collectives": list(self.collectives),
            "step_seconds": self.step_seconds,
            "bound": self.time.bound if self.time else None,
        }


def plan_phase(run: RunConfig, name: str, mesh: Mesh, compile_step: Compile) -> PhasePlan:
    """Compiles the phase's step as it would run, and as often as needed to say how many rows fit."""
    phase, device = run.phases[name], mesh.devices.flat[0]
    split = split_of(run, phase, mesh)
    limit = memory_limit(device)

    def analysed(rows: int, quick: bool) -> Analysis:
        tried = Split(rows, split.accumulation)
        label = f"{name}, {rows} row{'s' * (rows != 1)} a device" + (" (quick)" if quick else "")
        return compile_step(label, lower_step(run, name, mesh, tried), quick)

    tried = {split.rows: analysed(split.rows, False)}
    rows = split.rows
    while not tried[rows].compiled and rows > 1 and len(tried) <= MOST_HALVINGS:
        rows //= 2
        tried[rows] = analysed(rows, True)
    estimated = rows_by_memory(run, phase, mesh)
    # A second number of rows, far enough from the first, in the direction of a full memory.
    other = min(estimated, MOST_TIMES * rows) if estimated >= 1.5 * rows else max(1, rows // 2)
    if len(tried) == 1 and other != rows:
        tried[other] = analysed(other, True)
    counted = max((r for r, a in tried.items() if a.compiled and r <= split.rows), default=None)
    work = tried[counted].scaled(split.rows / counted) if counted else None
    chip = chip_of(device)
    return PhasePlan(
        phase=name,
        steps=phase.steps,
        batch_size=phase.batch_size,
        sequence_length=phase.sequence_length,
        split=split,
        **state_bytes(make_job(run, mesh)),
        total=tried[split.rows].total,
        limit=limit,
        largest_rows=largest_rows({r: a.total for r, a in tried.items()}, limit),
        flops=work.flops * mesh.size if work and work.flops is not None else None,
        flops_formula=phase.batch_size * train_flops_per_row(run.model, phase.sequence_length, phase.max_predictions),
        bytes_accessed=work.bytes_accessed * mesh.size if work and work.bytes_accessed is not None else None,
        collectives=work.collectives if work else (),
        time=step_time(chip, work.flops or 0, work.bytes_accessed or 0, work.bytes_sent) if chip and work else None,
    )


def largest_rows(totals: dict[int, int], limit: int) -> int:
    """Rows on a device that fit, by the straight line through the two programs nearest the limit.

    totals: rows -> bytes.
    """
    if len(totals) == 1:
        ((rows, total),) = totals.items()
        return rows if total <= limit else 0
    (r1, t1), (r2, t2) = sorted(sorted(totals.items(), key=lambda item: abs(item[1] - limit))[:2])
    per_row = (t2 - t1) / (r2 - r1)
    if per_row <= 0:
        return max((r for r, t in totals.items() if t <= limit), default=0)
    return max(0, int((limit - t1) / per_row + r1))
