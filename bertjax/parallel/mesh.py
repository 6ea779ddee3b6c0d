"""The device mesh: axes data x fsdp x tensor."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from bertjax.config import ConfigError

AXES = ("data", "fsdp", "tensor")


def make_mesh(data: int, fsdp: int, tensor: int, devices: list[Any] | None = None) -> Mesh:
    """A mesh over all devices; a size of -1 takes what the others leave. Raises ConfigError for impossible sizes."""
    devices = jax.devices() if devices is None else devices
    sizes = [data, fsdp, tensor]
    fixed = 1
    for size in sizes:
        fixed *= size if size != -1 else 1
    if -1 in sizes and len(devices) % fixed == 0:
        sizes[sizes.index(-1)] = len(devices) // fixed
        fixed = len(devices)
    if fixed != len(devices):
        raise ConfigError(
            f"config.parallel: data x fsdp x tensor = {data} x {fsdp} x {tensor} does not use {len(devices)} "
            f"device{'s' * (len(devices) != 1)} exactly; set config.parallel.data=-1"
        )
    # Auto axes: the compiler places the collectives from the shardings of the step's inputs and outputs.
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def batch_shards(mesh: Mesh) -> int:
    """Number of parts that the rows of a batch are divided into."""
    return mesh.shape["data"] * mesh.shape["fsdp"]
