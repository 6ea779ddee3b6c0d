"""The device mesh: axes data x fsdp x tensor."""

import math
from typing import Any

import jax
from jax.experimental.mesh_utils import create_device_mesh
from jax.sharding import AxisType, Mesh

from bertjax.errors import ConfigError

AXES = ("data", "fsdp", "tensor")


def make_mesh(data: int, fsdp: int, tensor: int, devices: list[Any] | None = None) -> Mesh:
    """A mesh over all devices; a size of -1 takes what the others leave. Raises ConfigError for impossible sizes."""
    devices = jax.devices() if devices is None else devices
    count, sizes = len(devices), [data, fsdp, tensor]
    fixed = math.prod(size for size in sizes if size != -1)
    if -1 in sizes and count % fixed == 0:
        sizes[sizes.index(-1)] = count // fixed
    if math.prod(sizes) != count:
        asked = f"config.parallel: data x fsdp x tensor = {data} x {fsdp} x {tensor}"
        have = f"{count} device{'s' * (count != 1)}"
        would = _that_would_work(dict(zip(AXES, sizes, strict=True)), count)
        raise ConfigError(f"{asked} cannot be made of {have}; {would} would")
    # An axis of 4 on a TPU slice of 8x8 is half of a physical axis: that is a ring no longer, but works.
    placed = create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    # Auto axes: the compiler places the collectives from the shardings of the step's inputs and outputs.
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _that_would_work(sizes: dict[str, int], count: int) -> str:
    """For each axis, the sizes that go with the others as they are; else the free choice."""
    free = -1 in sizes.values()
    found = []
    for name, size in sizes.items():
        others = math.prod(s for n, s in sizes.items() if n != name and s != -1)
        if size != -1 and count % others == 0:
            allowed = divisors(count // others) if free else [count // others]
            found.append(f"{name} = {one_of(allowed)}")
    return ", or ".join(found) or "data = -1, fsdp = 1, tensor = 1"


def divisors(number: int) -> list[int]:
    """All of them, ascending."""
    return [n for n in range(1, number + 1) if number % n == 0]


def one_of(sizes: list[int]) -> str:
    """Sizes to choose from, in words."""
    return " or ".join(map(str, sizes)) if len(sizes) < 3 else f"one of {', '.join(map(str, sizes))}"


def batch_shards(mesh: Mesh) -> int:
    """Number of parts that the rows of a batch are divided into."""
    return mesh.shape["data"] * mesh.shape["fsdp"]
