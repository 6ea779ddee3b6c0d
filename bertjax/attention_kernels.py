"""The attention kernels and what each supports; without jax, as configs are checked against it.

A new kernel is a file ``model/attention/NAME.py`` with a function ``attend``, and a row in ``KERNELS``.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field

from bertjax.errors import ConfigError


@dataclass(frozen=True)
class Kernel:
    """What a kernel supports. dropout: on the attention probabilities. float_types: of what it multiplies."""

    segments: bool = True
    window: bool = False
    dropout: bool = False
    backends: tuple[str, ...] = ("cpu", "gpu", "tpu")
    float_types: tuple[str, ...] = ("float32", "bfloat16", "float16")
    head_multiple: int = 1  # head sizes are multiples of this
    largest_head: int | None = None
    longest_row: Mapping[str, int] = field(default_factory=dict)  # by backend, where it has a limit
    package: str | None = None  # that must be installed, besides those of bertjax
    per_device: bool = False  # the compiler cannot divide it: each device calls it on its own rows and heads


_HALF = ("bfloat16", "float16")

# The fastest first. Measured on CPUs: explicit 47 ms, dot_product 74 ms. On TPUs ``fused`` needs fewer cycles by the
# compiler's estimate than ``splash``. The order on GPUs is by the bytes that the kernels move, not measured.
KERNELS = {
    # Heads of up to 128 are padded to 32, 64 or 128. On a TPU a row's gradients must fit in the chip's vector memory.
    "fused": Kernel(
        window=True,
        dropout=True,
        backends=("tpu", "gpu"),
        largest_head=128,
        longest_row={"tpu": 16384},
        per_device=True,
    ),
    "splash": Kernel(window=True, backends=("tpu",), float_types=("bfloat16",), per_device=True),
    "tokamax": Kernel(
        window=True,
        backends=("gpu",),
        float_types=_HALF,
        head_multiple=8,
        largest_head=256,
        package="tokamax",
        per_device=True,
    ),
    # It goes through jax's own rules for meshes. Segments and windows cost it a bias [B, 1, S, S].
    "cudnn": Kernel(window=True, backends=("gpu",), float_types=_HALF, head_multiple=8, largest_head=128),
    "explicit": Kernel(window=True, dropout=True),
    "dot_product": Kernel(),
}


_DROPOUT = "dropout on attention probabilities"


@dataclass(frozen=True)
class Demand:
    """What a run asks of a kernel; None: any, or not known yet. length: of its longest rows; 0: not known yet."""

    dropout: bool
    segments: bool = True
    window: bool = False
    backend: str | None = None
    float_type: str | None = None
    head_size: int = 0
    length: int = 0

    def lacking(self, kernel: Kernel) -> list[str]:
        """What the kernel does not support of it."""
        longest = kernel.longest_row.get(self.backend or "", self.length)
        fits = self.head_size % kernel.head_multiple == 0 and self.head_size <= (kernel.largest_head or self.head_size)
        checks = (
            (kernel.dropout or not self.dropout, _DROPOUT),
            (kernel.segments or not self.segments, "segments"),
            (kernel.window or not self.window, "windows"),
            (self.backend in (None, *kernel.backends), f"version for a {self.backend}"),
            (self.float_type in (None, *kernel.float_types), f"version in {self.float_type}"),
            (fits, f"heads of size {self.head_size}"),
            (self.length <= longest, f"rows of {self.length} positions on a {self.backend}"),
            (_installed(kernel.package), f"package to run it: pip install {kernel.package}"),
        )
        return [what for supported, what in checks if not supported]


def _installed(package: str | None) -> bool:
    return package is None or importlib.util.find_spec(package) is not None


def choose(name: str, demand: Demand, path: str = "") -> str:
    """The kernel ``name``, or for "auto" the fastest that supports the demand. Raises ConfigError that names the ways
    out; ``path`` stands before the names of keys."""
    able = [other for other, kernel in KERNELS.items() if not demand.lacking(kernel)]
    if name in able:
        return name
    if name == "auto" and able:
        return able[0]
    if name == "auto":
        raise ConfigError(f"no attention kernel supports all that the model needs: {demand}")
    lacks = demand.lacking(KERNELS[name])
    ways = [f"{path}attention_probs_dropout_prob = 0.0"] if _DROPOUT in lacks else []
    ways += [f"{path}attention = {other!r}" for other in able]
    raise ConfigError(f"{path}attention = {name!r} has no {' and no '.join(lacks)}; set {' or '.join(ways)}")
