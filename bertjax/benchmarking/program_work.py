"""What a compiled step does by its own text, and the least time that the device's rates allow for it."""

from typing import Any

from jax.sharding import Mesh

from bertjax.parallel.devices import chip_of
from bertjax.planning.hlo import read_program
from bertjax.planning.programs import FAST_SPACES
from bertjax.planning.work import collectives, operations, roofline_seconds


def program_work(program: Any, mesh: Mesh) -> dict[str, Any]:
    """FLOPs and bytes of a ``jax.stages.Compiled`` on all devices of its mesh, and its roofline.

    roofline_seconds: operation by operation the slower of arithmetic and memory at data-sheet rates, or the links if
    they take longer. memory_bound_share: the part of that time in operations that memory sets. Both None for a device
    whose rates are not on record.
    """
    device = mesh.devices.flat[0]
    text = read_program(program.as_text())
    found = operations(text, FAST_SPACES.get(device.platform, frozenset()))
    sent = sum(collective.bytes_sent for collective in collectives(text, mesh.size))
    work = {
        "flops": sum(one.flops for one in found) * mesh.size,
        "bytes_accessed": sum(one.bytes for one in found) * mesh.size,
        "bytes_sent": sent * mesh.size,
        "roofline_seconds": None,
        "memory_bound_share": None,
    }
    if chip := chip_of(device):
        on_device = roofline_seconds(found, chip.flops, chip.bandwidth)
        by_memory = [one for one in found if one.bytes / chip.bandwidth > one.flops / chip.flops]
        work["roofline_seconds"] = max(on_device, sent / chip.interconnect)
        work["memory_bound_share"] = roofline_seconds(by_memory, chip.flops, chip.bandwidth) / on_device
    return work
