"""What is known about devices: peak rates, memory, bandwidths. One table, for MFU and for ``bertjax.plan``."""

import contextlib
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh

from bertjax.memory import host_memory

GIB = 2**30
# The part of a GPU's memory that jax takes when nothing else is said (XLA_PYTHON_CLIENT_MEM_FRACTION).
GPU_SHARE = 0.75


@dataclass(frozen=True)
class Chip:
    """One kind of accelerator. All figures are those of one *device* as jax counts them."""

    name: str
    # Beginnings of jax's device_kind.
    kinds: tuple[str, ...]
    flops: float  # dense bfloat16 peak, FLOP/s
    memory: int  # bytes that a program may use
    bandwidth: float  # of its memory, bytes/s
    interconnect: float  # to the other devices of its slice or host, bytes/s one way, all links together
    source: str
    devices_per_chip: int = 1


_TPU = "docs.cloud.google.com/tpu/docs/"


def _gib(number: float) -> int:
    return int(number * GIB)


def _gpu(name: str, kind: str, flops: float, gib: float, bandwidth: float, links: float, model: str, form: str) -> Chip:
    source = f"NVIDIA {model} Tensor Core GPU data sheet ({form})"
    return Chip(name, (kind,), flops, _gib(GPU_SHARE * gib), bandwidth, links, source)


# First match wins, so a longer kind stands before one that it begins with. Memory of TPUs: what libtpu's compiler lets
# a program use ("available HBM" in its out-of-memory error), a little less than the data sheet's.
CHIPS: tuple[Chip, ...] = (
    Chip("v4", ("TPU v4",), 275e12, _gib(30.75), 1200e9, 300e9, _TPU + "v4"),
    Chip("v5e", ("TPU v5 lite", "TPU v5e"), 197e12, _gib(15.75), 819e9, 200e9, _TPU + "v5e"),
    Chip("v5p", ("TPU v5",), 459e12, _gib(95.74), 2765e9, 600e9, _TPU + "v5p"),
    Chip("v6e", ("TPU v6 lite", "TPU v6e"), 918e12, _gib(31.25), 1638e9, 400e9, _TPU + "v6e"),
    # Two devices a chip, each with half of what the data sheet gives for the chip.
    Chip("tpu7x", ("TPU7x", "TPU v7"), 2307e12 / 2, _gib(94.75), 7380e9 / 2, 600e9 / 2, _TPU + "tpu7x", 2),
    _gpu("h200", "NVIDIA H200", 990e12, 139, 4800e9, 450e9, "H200", "SXM"),
    _gpu("h100", "NVIDIA H100 80GB HBM3", 990e12, 79.1, 3350e9, 450e9, "H100", "SXM"),
    _gpu("a100", "NVIDIA A100-SXM4-80GB", 312e12, 79.25, 2039e9, 300e9, "A100 80GB", "SXM"),
    _gpu("h100-pcie", "NVIDIA H100 PCIe", 756e12, 79.1, 2000e9, 64e9, "H100", "PCIe"),
    _gpu("a100-40", "NVIDIA A100-SXM4-40GB", 312e12, 39.4, 1555e9, 300e9, "A100 40GB", "SXM"),
    _gpu("a100-pcie", "NVIDIA A100 80GB PCIe", 312e12, 79.25, 1935e9, 32e9, "A100 80GB", "PCIe"),
)


def chip_of(device: Any) -> Chip | None:
    """The table's row for a device, or None where it has none (CPUs among them)."""
    return next((chip for chip in CHIPS if device.device_kind.startswith(chip.kinds)), None)


def peak_flops(mesh: Mesh) -> float | None:
    """Peak FLOP/s of all devices, or None where they are not in the table (CPUs among them)."""
    chip = chip_of(mesh.devices.flat[0])
    return chip.flops * mesh.size if chip else None


def memory_limit(device: Any) -> int:
    """Bytes a device may use. A CPU device gets its share of the machine's (or container's) memory.

    The total, never what is free just now: the number decides how a batch is split, and a resumed run must
    split it as before. A device that is not there (``bertjax.plan``) has what the table says.
    """
    if device.platform != "cpu":
        with contextlib.suppress(jax.errors.JaxRuntimeError, AttributeError, KeyError):
            return int((device.memory_stats() or {})["bytes_limit"])
        # A device of another machine, or one that is only compiled for.
        if chip := chip_of(device):
            return chip.memory
    return host_memory() // max(1, len([d for d in jax.local_devices() if d.platform == "cpu"]))
