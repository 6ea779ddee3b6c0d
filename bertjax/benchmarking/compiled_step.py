"""The compiled step of every phase of a run on a topology: memory, work, collectives, and the largest traffic."""

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

from bertjax.benchmarking.program_work import program_work
from bertjax.config import RunConfig
from bertjax.engine.recorder import versions
from bertjax.parallel.devices import chip_of
from bertjax.parallel.mesh import make_mesh
from bertjax.planning.hlo import NAMES, Program, read_program
from bertjax.planning.programs import FAST_SPACES, lower_step, split_of, state_bytes
from bertjax.planning.topologies import Topology, devices_of
from bertjax.planning.work import Operation, collectives, operations
from bertjax.train.pretraining_job import cost_of_step, make_job

LARGEST = 12
_REDUCTIONS = ("all-reduce", "reduce-scatter")
# What is said of every operation, and numbers that tell one layer from the next.
_SAID_OF_ALL = re.compile(r"jit\(train_step\)/|closed_call/|while/body/|\[[^\]]*\]|(?<=[a-z_])\.?\d+\b")


def compiled_phases(run: RunConfig, topology: Topology, say: Callable[[str], None]) -> dict[str, Any]:
    devices = devices_of(topology)
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor, devices)
    found = {"topology": topology.name, "devices": mesh.size, "device_kind": devices[0].device_kind}
    found |= {"precision": run.precision, "versions": {name: versions()[name] for name in ("jax", "jaxlib")}}
    return found | {"phases": [_phase(run, name, mesh, say) for name in run.phases]}


def _phase(run: RunConfig, name: str, mesh: Mesh, say: Callable[[str], None]) -> dict[str, Any]:
    phase, platform = run.phases[name], mesh.devices.flat[0].platform
    split = split_of(run, phase, mesh)
    say(f"{name}: compiling {split.rows} rows a device ...")
    program = lower_step(run, name, mesh, split).compile()
    text = read_program(program.as_text())
    slots, formula = cost_of_step(run.model, phase)
    chip, memory, work = chip_of(mesh.devices.flat[0]), program.memory_analysis(), program_work(program, mesh)
    reduced = sum(c.count * c.bytes for c in collectives(text, mesh.size) if c.kind in _REDUCTIONS)
    heads = max(1, run.model.num_attention_heads // mesh.shape["tensor"])
    done = operations(text, FAST_SPACES.get(platform, frozenset()))
    return {
        "phase": name,
        "sequence_length": phase.sequence_length,
        "batch_size": phase.batch_size,
        "rows_per_device": split.rows,
        "accumulation": split.accumulation,
        "temporaries_bytes": memory.temp_size_in_bytes,
        "state_and_batch_bytes": memory.argument_size_in_bytes,
        **work,
        "flops_formula": formula,
        "bytes_per_token": work["bytes_accessed"] / slots,
        "arithmetic_seconds": chip and formula / mesh.size / chip.flops,
        "bytes_reduced": reduced,
        "gradient_bytes": state_bytes(make_job(run, mesh))["parameters"],
        "square_arrays": square_arrays(text, split.rows, heads, phase.sequence_length),
        "largest": largest(done, slots / mesh.size),
    }


def square_arrays(program: Program, rows: int, heads: int, length: int) -> int:
    """Results of operations that hold S x S numbers for each row and head of a device, outside the chip: what fused
    attention is for."""
    return sum(
        shape.dims[-2:] == (length, length) and shape.elements >= rows * heads * length * length and not shape.space
        for _, i, _, fused in program.walk()
        if not fused and i.opcode not in NAMES
        for shape in i.shapes
    )


def largest(done: list[Operation], tokens: float) -> list[dict[str, Any]]:
    """The operations that move the most, those of the same source together; bytes a token place of a device."""
    groups: dict[str, list[Operation]] = defaultdict(list)
    for one in done:
        source = _SAID_OF_ALL.sub("", one.source).replace("transpose(jvp())", "backward").replace("jvp()", "forward")
        groups[source or one.opcode].append(one)
    most = sorted(groups.items(), key=lambda item: -sum(one.bytes for one in item[1]))[:LARGEST]
    return [
        {
            "source": source,
            "times": int(sum(one.times for one in group)),
            "bytes": sum(one.bytes for one in group),
            "bytes_per_token": sum(one.bytes for one in group) / tokens,
        }
        for source, group in most
    ]
