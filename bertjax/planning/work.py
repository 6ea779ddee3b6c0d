"""What one device does in a step, read from its compiled program: FLOPs of the products, bytes of main memory, and the
collectives: which, how often, how large, and how much of each goes over the links."""

import math
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from bertjax.planning.hlo import Computation, Instruction, Program, Shape

# What moves no data: names of what is there already, and the second halves of asynchronous pairs.
_FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"),
    *("while", "call", "conditional", "async-start", "async-update", "opt-barrier"),
)
_FREE_CALLS = ("AllocateBuffer", "ConcatBitcast")
_SLICES = ("dynamic-slice", "slice", "gather")
_VIEWS = ("bitcast", "reshape", "transpose", "copy", "convert")
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


def matrix_flops(program: Program) -> float:
    """FLOPs of all matrix products (two a multiply-add), loops counted as often as they run. Element-wise work, about
    one percent in a BERT, is left out, and so are kernels that are opaque to the compiler."""
    return sum(times * _flops(i, where.operand_shapes(i)) for where, i, times, _ in program.walk())


def _flops(i: Instruction, operands: list[tuple[Shape, ...]]) -> float:
    if i.opcode == "convolution":
        return _convolution(i, operands)
    if i.opcode == "dot":
        contracted = i.attribute("lhs_contracting_dims")
    elif i.opcode == "custom-call" and ("$gemm" in i.attributes or "$lt$matmul" in i.attributes):
        found = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', i.attributes)
        contracted = found[1] if found else ""
    else:
        return 0.0
    return 2.0 * i.shapes[0].elements * math.prod(operands[0][0].dims[int(d)] for d in re.findall(r"\d+", contracted))


def _convolution(i: Instruction, operands: list[tuple[Shape, ...]]) -> float:
    """TPUs write every product as a convolution, batch dimensions as window positions of which few meet data."""
    lhs_labels, rhs_labels, out_labels = re.split("_|->", i.attribute("dim_labels"))
    lhs, rhs, out = operands[0][0].dims, operands[1][0].dims, i.shapes[0].dims
    window = dict(part.split("=") for part in i.attribute("window").strip("{}").split())
    total = 2.0 * out[out_labels.index("b")] * out[out_labels.index("f")] * rhs[rhs_labels.index("i")]
    spatial = sorted(letter for letter in out_labels if letter.isdigit())
    for number, letter in enumerate(spatial):

        def of(key: str, default: str, n: int = number) -> str:
            return window[key].split("x")[n] if key in window else default

        total *= _meetings(
            lhs[lhs_labels.index(letter)],
            rhs[rhs_labels.index(letter)],
            out[out_labels.index(letter)],
            stride=int(of("stride", "1")),
            low=int(of("pad", "0_0").split("_")[0]),
            spread=int(of("lhs_dilate", "1")),
            kernel_spread=int(of("rhs_dilate", "1")),
        )
    return total


def _meetings(data: int, kernel: int, out: int, stride: int, low: int, spread: int, kernel_spread: int) -> int:
    """Pairs of (output, kernel) positions that fall on an element of the data, not on padding or between elements."""
    at = np.arange(out)[:, None] * stride + np.arange(kernel)[None, :] * kernel_spread - low
    return int(np.count_nonzero((at >= 0) & (at <= (data - 1) * spread) & (at % spread == 0)))


def main_memory_bytes(program: Program, fast_spaces: frozenset[int] = frozenset()) -> float:
    """Bytes read from and written to a device's main memory; what lies in ``fast_spaces`` (on the chip) is free."""
    return sum(times * _moved(program, where, i, fast_spaces) for where, i, times, fused in program.walk() if not fused)


def _moved(program: Program, where: Computation, i: Instruction, fast: frozenset[int]) -> float:
    if i.opcode in _FREE or i.opcode.endswith("-done") or i.attribute("custom_call_target").strip('"') in _FREE_CALLS:
        return 0.0
    size = lambda shapes: sum(s.bytes for s in shapes if s.space not in fast)
    operands = where.operand_shapes(i)
    if i.opcode in _SLICES:
        return 2.0 * size(i.shapes)
    if i.opcode == "dynamic-update-slice":
        return 2.0 * size(operands[1])
    if i.opcode == "slice-start":  # its result: the operand, the slice, a flag
        taken = i.shapes[-2]
        return size([taken]) + (taken.bytes if i.shapes[0].space not in fast else 0)
    if i.opcode.endswith("-start"):  # its result repeats the operand
        return sum(size(shapes) for shapes in operands) + (size(i.shapes[:1]) if i.opcode == "copy-start" else 0)
    if i.opcode != "fusion":
        return size(i.shapes) + sum(size(shapes) for shapes in operands)
    inner = program.computations[i.called[0]]
    written, in_place = _written(inner, i, fast)
    return written + sum(
        _read(program, inner, number, shapes, fast) for number, shapes in enumerate(operands) if number not in in_place
    )


def _written(inner: Computation, i: Instruction, fast: frozenset[int]) -> tuple[float, set[int]]:
    """(bytes that a fusion writes, numbers of the operands that it only updates in place)."""
    roots = [inner.by_name[name] for name in inner.root.operands] if inner.root.opcode == "tuple" else [inner.root]
    if len(roots) != len(i.shapes):
        return float(sum(s.bytes for s in i.shapes if s.space not in fast)), set()
    total, in_place = 0.0, set()
    for root, shape in zip(roots, i.shapes, strict=True):
        update = _through_views(inner, root)
        if update.opcode == "dynamic-update-slice":
            target = _through_views(inner, inner.by_name[update.operands[0]])
            if target.opcode == "parameter":
                in_place.add(int(target.arguments))
            written = inner.by_name[update.operands[1]].shapes[0].bytes
        else:
            written = shape.bytes
        total += written if shape.space not in fast else 0
    return total, in_place


def _read(program: Program, inner: Computation, number: int, shapes: tuple[Shape, ...], fast: frozenset[int]) -> float:
    """Bytes that a fusion reads of an operand: only the slices where it takes nothing else of it."""
    whole = sum(s.bytes for s in shapes if s.space not in fast)
    parameter = next((p for p in inner.instructions if p.opcode == "parameter" and p.arguments == str(number)), None)
    if parameter is None or not whole:
        return float(whole)
    taken, waiting = 0.0, [parameter]
    while waiting:
        current = waiting.pop()
        for user in inner.users.get(current.name, ()):
            if user.opcode in ("bitcast", "reshape"):
                waiting.append(user)
            elif user.opcode in _SLICES and user.operands[0] == current.name:
                taken += user.shapes[0].bytes
            elif user.opcode == "fusion":
                nested = program.computations[user.called[0]]
                places = [place for place, name in enumerate(user.operands) if name == current.name]
                taken += sum(_read(program, nested, place, shapes, frozenset()) for place in places)
            else:
                return float(whole)
    return min(taken, float(whole))


def _through_views(inner: Computation, i: Instruction) -> Instruction:
    while i.opcode in _VIEWS and i.operands:
        i = inner.by_name[i.operands[0]]
    return i


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
