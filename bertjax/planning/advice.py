"""What to change where a phase does not fit, tried on the compiler first; and which devices would be idle."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from bertjax.config import RunConfig
from bertjax.errors import ConfigError
from bertjax.parallel.mesh import make_mesh
from bertjax.planning.phases import Compile, PhasePlan
from bertjax.planning.programs import lower_step, split_of

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
