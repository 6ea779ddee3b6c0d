"""A run on a topology: memory, rows that fit, work and time of a step for each phase; days and cost of them all.

The plan is a dict, as ``plan --json`` prints it: bytes are those of one device, FLOPs and bytes accessed those of a
step on all devices.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from jax.sharding import Mesh

from bertjax.config import RunConfig
from bertjax.errors import ConfigError
from bertjax.model.flops import train_flops_per_row
from bertjax.parallel.devices import Chip, chip_of, memory_limit
from bertjax.parallel.mesh import make_mesh
from bertjax.planning.programs import Analysis, Compile, Split, compiler, lower_step, split_of, state_bytes
from bertjax.planning.topologies import Topology, devices_of
from bertjax.train.pretraining_job import check_sizes, make_job, rows_by_memory

# What the slow end of the range assumes: shares of the bfloat16 peak, and of the bandwidths of memory and links, that
# plain programs reach (published BERT runs have 20 to 50 % of the peak).
PEAK_SHARE, BANDWIDTH_SHARE = 0.35, 0.7
ASSUMED = f"{PEAK_SHARE:.0%} of the peak, {BANDWIDTH_SHARE:.0%} of the bandwidths, no communication hidden"
# A device with a smaller share of the rows that would fit is called hardly used.
HARDLY_USED = 0.25
MOST_TIMES_THE_MEMORY = 64  # a larger run is a mistake, and too large to be compiled
MOST_HALVINGS = 6  # of the number of rows, in search of a program that fits
MOST_TIMES = 128  # the rows of the first program that the second may have: compilers are slow with huge arrays


def plan_run(
    run: RunConfig, topology: Topology, price: float | None, say: Callable[[str], None]
) -> tuple[dict[str, Any], Chip | None]:
    """Compiles every phase of a run; also returns the chip, if its rates are known. Raises ConfigError, before that,
    for an impossible mesh or batch."""
    if price is not None and not price >= 0:
        raise ConfigError(f"--price = {price} must be 0 or more, dollars for one chip and hour")
    devices = devices_of(topology)
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor, devices)
    check_sizes(run, mesh, times=MOST_TIMES_THE_MEMORY)  # below that the compiler decides
    make_job(run, mesh)
    compile_step, chip = compiler(topology.name, mesh, say), chip_of(devices[0])
    phases = [plan_phase(run, name, mesh, compile_step) for name in run.phases]
    chips = len(devices) / (chip.devices_per_chip if chip else 1)
    figures: dict[str, Any] = {"days": None, "chip_hours": None, "price": price, "cost": None}
    if all(phase["step_seconds"] for phase in phases):
        low, high = (sum(p["steps"] * p["step_seconds"][end] for p in phases) for end in (0, 1))
        figures = totals(low, high, chips, price)
    plan = {
        "config": run.name,
        "topology": topology.name,
        "devices": len(devices),
        "chips": chips,
        "device_kind": devices[0].device_kind,
        "mesh": dict(mesh.shape),
        "fits": all(phase["fits"] for phase in phases),
        "phases": phases,
        **figures,
        "step_seconds_from": "roofline",
        "step_seconds_to": ASSUMED,
        "advice": advise(run, devices, phases, compile_step),
    }
    return plan, chip


def plan_phase(run: RunConfig, name: str, mesh: Mesh, compile_step: Compile) -> dict[str, Any]:
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
    chip, state, total = chip_of(device), state_bytes(make_job(run, mesh)), tried[split.rows].total
    flops, accessed = (work.flops or 0.0, work.bytes_accessed or 0.0) if work else (0.0, 0.0)
    seconds, bound = step_time(chip, flops, accessed, work.bytes_sent) if chip and work else (None, None)
    return {
        "phase": name,
        "steps": phase.steps,
        "batch_size": phase.batch_size,
        "sequence_length": phase.sequence_length,
        "rows_per_device": split.rows,
        "accumulation": split.accumulation,
        "largest_rows_per_device": largest_rows({r: a.total for r, a in tried.items()}, limit),
        "fits": total <= limit,
        "memory": {**state, "temporaries": total - sum(state.values()), "total": total, "limit": limit},
        "flops": flops * mesh.size if work else None,
        "flops_formula": phase.batch_size
        * train_flops_per_row(run.model, phase.sequence_length, phase.max_predictions),
        "bytes_accessed": accessed * mesh.size if work else None,
        "collectives": list(work.collectives) if work else [],
        "step_seconds": seconds,
        "bound": bound,
    }


def largest_rows(totals: dict[int, int], limit: int) -> int:
    """Rows on a device that fit, by the straight line through the two programs (rows -> bytes) nearest the limit."""
    if len(totals) == 1:
        ((rows, total),) = totals.items()
        return rows if total <= limit else 0
    (r1, t1), (r2, t2) = sorted(sorted(totals.items(), key=lambda item: abs(item[1] - limit))[:2])
    per_row = (t2 - t1) / (r2 - r1)
    if per_row <= 0:
        return max((r for r, t in totals.items() if t <= limit), default=0)
    return max(0, int((limit - t1) / per_row + r1))


def step_time(chip: Chip, flops: float, bytes_accessed: float, bytes_sent: float) -> tuple[tuple[float, float], str]:
    """(Seconds of one step on a device, by the roofline and by ``ASSUMED``; the slowest resource at full rates)."""
    compute, memory, communication = flops / chip.flops, bytes_accessed / chip.bandwidth, bytes_sent / chip.interconnect
    roofline, bound = max(
        (compute, "compute"), (memory, "memory"), (communication, "communication"), key=lambda x: x[0]
    )
    high = max(compute / PEAK_SHARE, memory / BANDWIDTH_SHARE) + communication / BANDWIDTH_SHARE
    return (roofline, high), bound


def totals(low: float, high: float, chips: float, price: float | None) -> dict[str, Any]:
    """Days, chip-hours and cost of a run, each as (low, high), from its seconds and the price of a chip-hour."""
    hours = low / 3600 * chips, high / 3600 * chips
    cost = None if price is None else (hours[0] * price, hours[1] * price)
    return {"days": (low / 86400, high / 86400), "chip_hours": hours, "price": price, "cost": cost}


def advise(run: RunConfig, devices: list[Any], phases: list[dict[str, Any]], compile_step: Compile) -> list[str]:
    """Lines for a person."""
    lines = []
    for plan in phases:
        rows, largest, bound = plan["rows_per_device"], plan["largest_rows_per_device"], plan["bound"]
        if not plan["fits"]:
            lines.append(_that_fits(run, devices, plan, compile_step))
        elif bound not in (None, "compute") and rows < HARDLY_USED * largest:
            lines.append(
                f"{plan['phase']}: a device holds {rows} of about {largest} rows that would fit, and {bound} sets the "
                f"time: a larger batch_size, or fewer chips, would use them better"
            )
    return lines


def _that_fits(run: RunConfig, devices: list[Any], plan: dict[str, Any], compile_step: Compile) -> str:
    """The first change of the config with which the phase compiles within the device's memory."""
    phase, limit, tried = plan["phase"], plan["memory"]["limit"], []
    for change, changed in _changes(run, plan["rows_per_device"], plan["largest_rows_per_device"]):
        try:
            parallel = changed.parallel
            mesh = make_mesh(parallel.data, parallel.fsdp, parallel.tensor, devices)
            split = split_of(changed, changed.phases[phase], mesh)
            lowered = lower_step(changed, phase, mesh, split)
        except ConfigError:  # the model or the batch cannot be divided like that
            continue
        total = compile_step(f"{phase} with {change}", lowered, True).total
        if total <= limit:
            rows = f"{split.rows} row{'s' * (split.rows != 1)} a device in {split.accumulation} parts"
            return f"{phase} would fit with {change}: {rows}, {total / limit:.0%} of the memory"
        tried.append(change)
    return f"{phase} does not fit, nor with {'; '.join(tried) or 'fewer rows'}: take more or larger devices"


def _changes(run: RunConfig, rows_per_device: int, largest: int) -> Iterator[tuple[str, RunConfig]]:
    """(config keys, the changed run) of what may help, the least costly first."""
    parallel, model = run.parallel, run.model
    for rows in dict.fromkeys((largest, largest * 7 // 8, 1)):
        if 0 < rows < rows_per_device:
            fewer = dataclasses.replace(parallel, rows_per_device=rows)
            yield f"config.parallel.rows_per_device={rows}", dataclasses.replace(run, parallel=fewer)
    shared = dataclasses.replace(parallel, data=1, fsdp=-1, rows_per_device=1)
    keys = "config.parallel.data=1 config.parallel.fsdp=-1 config.parallel.rows_per_device=1"
    if parallel.fsdp == 1:
        yield keys, dataclasses.replace(run, parallel=shared)
    if model.remat == "none":
        less = dataclasses.replace(model, remat="layer")
        yield f"config.model.remat=layer {keys}", dataclasses.replace(run, model=less, parallel=shared)
