"""All phases of a run on a topology: whether they fit, time, chip-hours, cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bertjax.config import RunConfig
from bertjax.errors import ConfigError
from bertjax.parallel.devices import Chip, chip_of
from bertjax.parallel.mesh import make_mesh
from bertjax.planning.advice import advise
from bertjax.planning.cache import cached_analysis, program_key
from bertjax.planning.estimate import ASSUMED, Totals, totals
from bertjax.planning.phases import PhasePlan, plan_phase
from bertjax.planning.programs import Analysis, analyse
from bertjax.planning.topologies import Topology, devices_of
from bertjax.train.job import check_sizes, make_job

SECONDS_BETWEEN_NOTES = 15.0  # while the compiler works
MOST_TIMES_THE_MEMORY = 64  # a larger run is a mistake, and too large to be compiled


@dataclass(frozen=True)
class RunPlan:
    run: RunConfig
    topology: Topology
    device_kind: str
    devices: int
    chips: float
    chip: Chip | None
    mesh: dict[str, int]
    phases: tuple[PhasePlan, ...]
    totals: Totals | None
    price: float | None
    advice: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return all(phase.fits for phase in self.phases)

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "config": self.run.name,
            "topology": self.topology.name,
            "devices": self.devices,
            "chips": self.chips,
            "device_kind": self.device_kind,
            "mesh": self.mesh,
            "fits": self.fits,
            "phases": [phase.to_json() for phase in self.phases],
            "days": self.totals.days if self.totals else None,
            "chip_hours": self.totals.chip_hours if self.totals else None,
            "price": self.price,
            "cost": self.totals.cost if self.totals else None,
            "step_seconds_from": "roofline",
            "step_seconds_to": ASSUMED,
            "advice": list(self.advice),
        }


def plan_run(run: RunConfig, topology: Topology, price: float | None, say: Callable[[str], None]) -> RunPlan:
    """Compiles every phase of a run. Raises ConfigError, before that, for an impossible mesh or batch."""
    if price is not None and not price >= 0:
        raise ConfigError(f"--price = {price} must be 0 or more, dollars for one chip and hour")
    devices = devices_of(topology)
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor, devices)
    check_sizes(run, mesh, times=MOST_TIMES_THE_MEMORY)  # below that the compiler decides
    make_job(run, mesh)
    platform, chip = devices[0].platform, chip_of(devices[0])

    def compile_step(label: str, lowered: Any, quick: bool) -> Analysis:
        key = program_key(lowered, f"{topology.name} {devices[0].device_kind}", quick)
        work = lambda: analyse(lowered, platform, mesh.size, quick)
        return cached_analysis(key, lambda: _timed(f"compiling {label} for {topology.name}", say, work))

    phases = tuple(plan_phase(run, name, mesh, compile_step) for name in run.phases)
    times = [(phase.steps * phase.time.low, phase.steps * phase.time.high) for phase in phases if phase.time]
    seconds = (sum(low for low, _ in times), sum(high for _, high in times))
    chips = len(devices) / (chip.devices_per_chip if chip else 1)
    return RunPlan(
        run=run,
        topology=topology,
        device_kind=devices[0].device_kind,
        devices=len(devices),
        chips=chips,
        chip=chip,
        mesh=dict(mesh.shape),
        phases=phases,
        totals=totals(seconds, chips, price) if len(times) == len(phases) else None,
        price=price,
        advice=advise(run, devices, phases, compile_step),
    )


def _timed(what: str, say: Callable[[str], None], work: Callable[[], Analysis]) -> Analysis:
    """The result of ``work``; says what it is when it begins, now and again, and at its end."""
    began, done = time.monotonic(), threading.Event()

    def remind() -> None:
        while not done.wait(SECONDS_BETWEEN_NOTES):
            say(f"{what}: {time.monotonic() - began:.0f} s so far")

    say(f"{what} ...")
    threading.Thread(target=remind, daemon=True).start()
    try:
        return work()
    finally:
        done.set()
        say(f"{what}: done in {time.monotonic() - began:.1f} s")
