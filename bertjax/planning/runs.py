"""All phases of a run on a topology: whether they fit, time, chip-hours, cost."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bertjax.config import RunConfig
from bertjax.errors import ConfigError
from bertjax.parallel.devices import Chip, chip_of
from bertjax.parallel.mesh import make_mesh
from bertjax.planning.phases import ASSUMED, Compile, PhasePlan, Totals, plan_phase, totals
from bertjax.planning.programs import Analysis, analyse, cached_analysis, lower_step, program_key, split_of
from bertjax.planning.topologies import Topology, devices_of
from bertjax.train.pretraining_job import check_sizes, make_job

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


# A device with a smaller share of the rows that would fit is called hardly used.
HARDLY_USED = 0.25


def advise(run: RunConfig, devices: list[Any], phases: Sequence[PhasePlan], compile_step: Compile) -> tuple[str, ...]:
    """Lines for a person."""
    lines = []
    for plan in phases:
        if not plan.fits:
            lines.append(_that_fits(run, devices, plan, compile_step))
        elif plan.time and plan.time.bound != "compute" and plan.split.rows < HARDLY_USED * plan.largest_rows:
            lines.append(
                f"{plan.phase}: a device holds {plan.split.rows} of about {plan.largest_rows} rows that would fit, and "
                f"{plan.time.bound} sets the time: a larger batch_size, or fewer chips, would use them better"
            )
    return tuple(lines)


def _that_fits(run: RunConfig, devices: list[Any], plan: PhasePlan, compile_step: Compile) -> str:
    """The first change of the config with which the phase compiles within the device's memory."""
    tried = []
    for change, changed in _changes(run, plan):
        try:
            parallel = changed.parallel
            mesh = make_mesh(parallel.data, parallel.fsdp, parallel.tensor, devices)
            split = split_of(changed, changed.phases[plan.phase], mesh)
            lowered = lower_step(changed, plan.phase, mesh, split)
        except ConfigError:  # the model or the batch cannot be divided like that
            continue
        total = compile_step(f"{plan.phase} with {change}", lowered, True).total
        if total <= plan.limit:
            rows = f"{split.rows} row{'s' * (split.rows != 1)} a device in {split.accumulation} parts"
            return f"{plan.phase} would fit with {change}: {rows}, {total / plan.limit:.0%} of the memory"
        tried.append(change)
    return f"{plan.phase} does not fit, nor with {'; '.join(tried) or 'fewer rows'}: take more or larger devices"


def _changes(run: RunConfig, plan: PhasePlan) -> Iterator[tuple[str, RunConfig]]:
    """(config keys, the changed run) of what may help, the least costly first."""
    parallel, model = run.parallel, run.model
    for rows in dict.fromkeys((plan.largest_rows, plan.largest_rows * 7 // 8, 1)):
        if 0 < rows < plan.split.rows:
            fewer = dataclasses.replace(parallel, rows_per_device=rows)
            yield f"config.parallel.rows_per_device={rows}", dataclasses.replace(run, parallel=fewer)
    shared = dataclasses.replace(parallel, data=1, fsdp=-1, rows_per_device=1)
    keys = "config.parallel.data=1 config.parallel.fsdp=-1 config.parallel.rows_per_device=1"
    if parallel.fsdp == 1:
        yield keys, dataclasses.replace(run, parallel=shared)
    if model.remat == "none":
        less = dataclasses.replace(model, remat="layer")
        yield f"config.model.remat=layer {keys}", dataclasses.replace(run, model=less, parallel=shared)
