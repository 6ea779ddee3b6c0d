"""How a model and a batch are divided over devices, and how many rows a device takes at once."""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.config import ModelConfig
from bertjax.engine.activations import Loss, activation_bytes_per_row, state_bytes
from bertjax.errors import ConfigError
from bertjax.model.parameters import padded_vocabulary
from bertjax.model.precision import precision_named
from bertjax.parallel.devices import memory_limit
from bertjax.parallel.lookup import divided_lookup
from bertjax.parallel.mesh import divisors, one_of
from bertjax.parallel.sharding import batch_sharding

# Part of a device's memory, beside the state, that the activations of one accumulation step may take. They are known to
# some percent; the rest is for what the backward pass computes on the way, and for the program itself.
ACTIVATION_SHARE = 0.7


def check_divides(model: ModelConfig, mesh: Mesh) -> None:
    """Raises ConfigError where an axis of the mesh does not divide what it is to divide."""
    divided = {
        "fsdp": {"hidden_size": model.hidden_size},
        "tensor": {
            "num_attention_heads": model.num_attention_heads,
            "intermediate_size": model.intermediate_size,
            "padded vocab_size": padded_vocabulary(model.vocab_size),
        },
    }
    for axis, sizes in divided.items():
        if any(size % mesh.shape[axis] for size in sizes.values()):
            what = ", ".join(f"{name} = {size}" for name, size in sizes.items())
            would = one_of([n for n in divisors(math.gcd(*sizes.values())) if mesh.size % n == 0])
            raise ConfigError(
                f"config.parallel.{axis} = {mesh.shape[axis]} does not divide the model ({what}); "
                f"on {mesh.size} devices {would} would"
            )


def parts_of(rows: int, most: int) -> int:
    """The smallest number of equal parts of ``rows`` that are no larger than ``most``."""
    return next(parts for parts in range(1, rows + 1) if rows % parts == 0 and rows // parts <= max(1, most))


def rows_that_fit(
    model: ModelConfig, precision: str, mesh: Mesh, length: int, predictions: int, loss: Loss, examples: int = 1
) -> int:
    """Rows of ``length`` that one device can work on at once, by what the backward pass keeps of each."""
    device = own_device(mesh)
    row = activation_bytes_per_row(
        model, precision, device.platform, length, predictions, examples, loss, mesh.shape["tensor"]
    )
    left = memory_limit(device) - state_bytes(model, mesh.shape["fsdp"] * mesh.shape["tensor"])
    return max(1, int(left * ACTIVATION_SHARE) // row)


def own_device(mesh: Mesh) -> Any:
    """A device of this process, where there is one: others do not say how much memory they have."""
    return next((d for d in mesh.devices.flat if d.process_index == jax.process_index()), mesh.devices.flat[0])


def in_parts(rows: int, most: int, sizes: list[int]) -> str:
    """How a device does its rows of a batch, in words; ``most`` and ``sizes``: of ``better_sizes``."""
    parts = parts_of(rows, most)
    each = rows // parts
    return (
        f"{parts} parts of {each} row{'s' * (each != 1)} a device, though {most} would fit: {rows} has no divisor near"
    )


def better_sizes(rows: int, most: int) -> tuple[int, list[int]] | None:
    """(``most``, the nearest numbers of rows below and above that are done in about as few parts as can be), where
    ``rows`` are done in at least twice as many; else None."""
    most = max(1, most)
    good = lambda n: parts_of(n, most) < 2 * -(-n // most)
    if good(rows):
        return None
    below = next(n for n in range(rows, 0, -1) if good(n))
    return most, [below, next(n for n in range(rows, 2 * rows + most + 1) if good(n))]


def hooks(precision: str, mesh: Mesh) -> dict[str, Any]:
    """What a model needs to run on a mesh: backend, precision, lookup, constrain and replicate of ``Bert``."""
    pin = lambda sharding: lambda x: jax.lax.with_sharding_constraint(x, sharding)
    backend = mesh.devices.flat[0].platform
    return {
        "backend": backend,
        "precision": precision_named(precision, backend),
        "lookup": divided_lookup(mesh),
        "constrain": pin(batch_sharding(mesh)),
        "replicate": pin(NamedSharding(mesh, PartitionSpec())),
    }
