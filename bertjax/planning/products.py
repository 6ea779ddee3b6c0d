"""FLOPs of one instruction of a compiled program: its matrix products, two a multiply-add."""

import math
import re

import numpy as np

from bertjax.planning.hlo import Instruction, Shape


def flops(i: Instruction, operands: list[tuple[Shape, ...]]) -> float:
    """FLOPs of a product, or those that a kernel declares; 0 for anything else.

    Element-wise work, about one percent in a BERT, is left out, and so are kernels that declare nothing. A fusion does
    what the instructions inside it do.
    """
    if i.opcode == "convolution":
        return _convolution(i, operands)
    if i.opcode == "custom-call":
        return _custom_call(i, operands)
    return _product(i, operands, i.attribute("lhs_contracting_dims")) if i.opcode == "dot" else 0.0


def declared(i: Instruction, what: str) -> float:
    """What a Pallas kernel says of itself, "flops" or "bytes_accessed", or 0: in its cost estimate on a TPU, in its
    metadata on a GPU, where the lowering drops the estimate."""
    text = i.attributes.replace(r"\22", '"')  # as MLIR writes a quote in a string
    found = re.search(rf'"cost_estimate":\{{[^}}]*?"{what}":"(\d+)"', text) or re.search(rf'"{what}": ?"(\d+)"', text)
    return float(found[1]) if found else 0.0


def _custom_call(i: Instruction, operands: list[tuple[Shape, ...]]) -> float:
    if "$gemm" in i.attributes or "$lt$matmul" in i.attributes:
        found = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', i.attributes)
        return _product(i, operands, found[1] if found else "")
    return declared(i, "flops")


def _product(i: Instruction, operands: list[tuple[Shape, ...]], contracted: str) -> float:
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
