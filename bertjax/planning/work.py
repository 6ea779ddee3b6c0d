"""What one device does in a step, read from its compiled program: FLOPs of the products, bytes of main memory."""

import math
import re

import numpy as np

from bertjax.planning.hlo import Computation, Instruction, Program, Shape

# What moves no data: names of what is there already, and the second halves of asynchronous pairs.
_FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"),
    *("while", "call", "conditional", "async-start", "async-update", "opt-barrier"),
)
_SLICES = ("dynamic-slice", "slice", "gather")
_VIEWS = ("bitcast", "reshape", "transpose", "copy", "convert")


def matrix_flops(program: Program) -> float:
    """FLOPs of all matrix products (two a multiply-add), loops counted as often as they run.

    Element-wise work, about one percent in a BERT, is left out, and so are kernels that are opaque to the compiler.
    """
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
    if i.opcode in _FREE or i.opcode.endswith("-done"):
        return 0.0
    size = lambda shapes: sum(s.bytes for s in shapes if s.space not in fast)
    operands = where.operand_shapes(i)
    if i.opcode in _SLICES:
        return 2.0 * size(i.shapes)
    if i.opcode == "dynamic-update-slice":
        return 2.0 * size(operands[1])
    if i.opcode.endswith("-start"):  # its result repeats the operand
        return sum(size(shapes) for shapes in operands) + (size(i.shapes[:1]) if i.opcode == "copy-start" else 0)
    if i.opcode != "fusion":
        return size(i.shapes) + sum(size(shapes) for shapes in operands)
    inner = program.computations[i.called[0]]
    written, in_place = _written(inner, i, fast)
    return written + sum(
        _read(inner, number, shapes, fast) for number, shapes in enumerate(operands) if number not in in_place
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


def _read(inner: Computation, number: int, shapes: tuple[Shape, ...], fast: frozenset[int]) -> float:
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
            else:
                return float(whole)
    return min(taken, float(whole))


def _through_views(inner: Computation, i: Instruction) -> Instruction:
    while i.opcode in _VIEWS and i.operands:
        i = inner.by_name[i.operands[0]]
    return i
