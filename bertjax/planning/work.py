"""What one device does in a step, read from its compiled program: FLOPs of the products and bytes of main memory,
operation by operation, and the collectives: which, how often, how large, how much of each goes over the links."""

import math
import re
from collections import Counter
from dataclasses import dataclass

from bertjax.planning.hlo import Computation, Instruction, Program, Shape
from bertjax.planning.products import flops
from bertjax.planning.traffic import Moved, moved

# Bytes that one device of a group of n sends for a payload of one byte, by the ring or its equivalent.
_SENT = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "ragged-all-to-all": lambda n: (n - 1) / n,
    "collective-broadcast": lambda n: 1.0,
    "collective-permute": lambda n: 1.0,
}


@dataclass(frozen=True)
class Operation:
    """One instruction that the device runs as a whole, such as a fusion. ``flops`` and ``bytes``: of all ``times``."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # of its results
    where: str  # the computation it stands in
    source: str  # what it was traced from, as the compiler remembers it
    times: float
    flops: float
    read: float
    written: float

    @property
    def bytes(self) -> float:
        return self.read + self.written


def operations(program: Program, fast_spaces: frozenset[int] = frozenset()) -> list[Operation]:
    """All that do work, in the order of the program. fast_spaces: numbers of the memories on the chip, which are
    free."""
    found: list[tuple[Computation, Instruction, float, Moved]] = []
    work: list[float] = []
    for where, i, times, fused in program.walk():
        if not fused:
            found.append((where, i, times, moved(program, where, i, fast_spaces)))
            work.append(0.0)
        plain = where.synchronous(i)
        work[-1] += times * flops(plain, where.operand_shapes(i))  # a fusion does what stands inside it
    return [
        Operation(
            i.name,
            i.opcode,
            where.synchronous(i).shapes,
            where.name,
            i.source,
            times,
            done,
            times * bytes_moved.read,
            times * bytes_moved.written,
        )
        for (where, i, times, bytes_moved), done in zip(found, work, strict=True)
        if done or sum(bytes_moved)
    ]


def matrix_flops(program: Program) -> float:
    """FLOPs of all matrix products, kernels that declare theirs included; see ``bertjax.planning.products``."""
    return sum(operation.flops for operation in operations(program))


def main_memory_bytes(program: Program, fast_spaces: frozenset[int] = frozenset()) -> float:
    """Bytes read from and written to a device's main memory; see ``bertjax.planning.traffic``."""
    return sum(operation.bytes for operation in operations(program, fast_spaces))


def roofline_seconds(program: list[Operation], peak: float, bandwidth: float) -> float:
    """Seconds if every operation, one after the other, takes as long as its slower resource needs. peak: FLOPs a
    second; bandwidth: bytes of main memory a second."""
    return sum(max(operation.flops / peak, operation.bytes / bandwidth) for operation in program)


@dataclass(frozen=True)
class Collective:
    """``count`` times a step, ``bytes`` each (the whole array: gathered, or before it is scattered), over ``devices``.

    ``shapes`` names the arrays, so that a person sees which parameter is meant. ``in_loop``: inside a loop.
    ``bytes_sent``: by a device in a step.
    """

    kind: str
    devices: int
    count: int
    bytes: int
    shapes: str
    in_loop: bool
    bytes_sent: float


def collectives(program: Program, devices: int) -> list[Collective]:
    """Those of a step, the most bytes sent first. ``devices``: number that the program runs on."""
    found: Counter[tuple] = Counter()
    # TPUs cut an asynchronous collective into parts, each in a fusion with other work, all with one channel.
    parts: dict[tuple, float] = {}
    for where, i, times, fused in program.walk():
        kind = i.opcode.removesuffix("-start")
        if kind not in _SENT:
            continue
        group = group_size(i, devices)
        if group < 2:
            continue
        operands = [shape for shapes in where.operand_shapes(i) for shape in shapes]
        payload = sum(shape.bytes for shape in operands) * (group if kind == "all-gather" else 1)
        if kind == "all-reduce" and fused and scattered(where, i):
            kind = "reduce-scatter"
        names = Counter(f"{shape.dtype}[{','.join(map(str, shape.dims))}]" for shape in operands)
        shapes = " ".join(f"{n}*{name}" if n > 1 else name for name, n in names.items())
        key = (kind, group, payload, shapes)
        channel = i.attribute("channel_id")
        if fused and channel:
            parts[*key, channel] = min(times, parts.get((*key, channel), times))
        else:
            found[*key, times > 1] += int(times)
    for (*key, _), times in parts.items():
        found[*key, times > 1] += int(times)
    made = [
        Collective(kind, n, count, size, shapes, in_loop, count * size * _SENT[kind](n))
        for (kind, n, size, shapes, in_loop), count in found.items()
    ]
    return sorted(made, key=lambda c: -c.bytes_sent)


def scattered(where: Computation, i: Instruction) -> bool:
    """Whether of an all-reduce inside a fusion only a slice is kept: how TPUs write a reduce-scatter."""
    return "all-reduce-scatter" in where.name or any(
        user.opcode == "dynamic-slice" for user in where.users.get(i.name, ())
    )


def group_size(i: Instruction, devices: int) -> int:
    """Devices that take part together; ``replica_groups`` has three notations."""
    if i.opcode.startswith("collective-permute"):
        pairs = re.findall(r"\{(\d+),(\d+)\}", i.attribute("source_target_pairs"))
        return 2 if any(a != b for a, b in pairs) else 1  # 1: nothing goes to another device
    match = re.search(r"replica_groups=(\{\}|\{\{[\d,]*\}|\[[\d,]+\]<=|mesh\[[^\]]*\][^{]*\{[^}]*\})", i.attributes)
    text = match[1] if match else ""
    if text.startswith("{{"):
        return text.count(",") + 1
    if text.startswith("["):
        return int(re.findall(r"\d+", text)[-1])
    if text.startswith("mesh"):
        mesh, chosen = text.split("]", 1)[0], text.rpartition("{")[2]
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
        # An axis may be named in part: 'axis':(before)size.
        return math.prod(
            int(part) if part else sizes[name] for name, part in re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", chosen)
        )
    return devices
