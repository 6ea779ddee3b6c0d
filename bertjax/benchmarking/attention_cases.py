"""Calls of attention kernels on packed rows: shapes, arrays, compiled functions, and how two results differ."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.attention_kernels import Demand
from bertjax.model.attention import SegmentIds, kernel
from bertjax.model.dropout import DropoutSeed, dropout_at
from bertjax.model.precision import Precision

PADDING = 0.02  # of a packed row


@dataclass(frozen=True)
class Case:
    """B rows of S positions, N heads of D, E packed examples a row; rate of dropout and window."""

    rows: int
    length: int
    heads: int
    head_size: int
    examples: int
    rate: float = 0.0
    window: int | None = None

    @property
    def flops(self) -> float:
        """Of forward and backward pass: two products and four, two a multiply-add, nothing computed twice."""
        return 12.0 * self.rows * self.heads * self.length**2 * self.head_size

    def demand(self, backend: str | None, precision: Precision) -> Demand:
        return Demand(
            dropout=self.rate > 0.0,
            window=self.window is not None,
            backend=backend,
            float_type=str(precision.operands),
            head_size=self.head_size,
            length=self.length,
        )


class Arrays(NamedTuple):
    """query, key, value, cotangent [B, S, N, D]; example ids int32 [B, S]; row numbers uint32 [B]."""

    query: Any
    key: Any
    value: Any
    cotangent: Any
    ids: Any
    rows: Any

    def cast(self, dtype: Any) -> "Arrays":
        return Arrays(*(x.astype(dtype) for x in self[:4]), *self[4:])

    def first(self, rows: int) -> "Arrays":
        return Arrays(*(x[:rows] for x in self))


class Result(NamedTuple):
    output: jax.Array
    gradients: tuple[jax.Array, ...]

    def first(self, rows: int) -> "Result":
        return jax.tree.map(lambda x: x[:rows], self)


def random_arrays(case: Case, seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    shape = (case.rows, case.length, case.heads, case.head_size)
    arrays = (jnp.asarray(random.standard_normal(shape, np.float32)) for _ in range(4))
    ids, used = np.zeros((case.rows, case.length), np.int32), max(1, round(case.length * (1 - PADDING)))
    for row in ids:
        cuts = np.sort(random.integers(1, used + 1, case.examples - 1))
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, used], strict=True), start=1):
            row[start:end] = number
    return Arrays(*arrays, jnp.asarray(ids), jnp.arange(case.rows, dtype=jnp.uint32))


def forward(name: str, case: Case, precision: Precision) -> Callable[[Arrays], jax.Array]:
    """A kernel's output, under jit."""
    attend = kernel(name, precision, jax.default_backend())

    def run(arrays: Arrays) -> jax.Array:
        dropout = dropout_at(4, case.rate, DropoutSeed(jnp.uint32(1), jnp.uint32(2), arrays.rows))
        return attend(*arrays[:3], SegmentIds(arrays.ids, arrays.ids), case.window, dropout)

    return jax.jit(run)


def forward_and_backward(name: str, case: Case, precision: Precision) -> Callable[[Arrays], Result]:
    """A kernel's output and the gradients of query, key and value, under jit."""
    call = forward(name, case, precision)

    def run(arrays: Arrays) -> Result:
        output, back = jax.vjp(lambda *x: call(Arrays(*x, *arrays[3:])), *arrays[:3])
        return Result(output, back(arrays.cotangent.astype(output.dtype)))

    return jax.jit(run)


def differences(found: Result, wanted: Result) -> dict[str, float]:
    """The largest absolute differences of outputs and of gradients."""
    most = lambda a, b: float(jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32)).max())
    gradients = zip(found.gradients, wanted.gradients, strict=True)
    return {
        "output_difference": most(found.output, wanted.output),
        "gradient_difference": max(most(a, b) for a, b in gradients),
    }
