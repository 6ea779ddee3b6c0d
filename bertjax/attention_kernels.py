"""Which attention kernels there are and what each supports: read when a config is checked, so there is no jax here.

A new kernel is a file ``model/attention/NAME.py`` with a function ``attend``, and a row in ``KERNELS``.
"""

from __future__ import annotations

from dataclasses import dataclass

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


# The fastest first. Measured on CPUs: explicit 47 ms, dot_product 74 ms.
KERNELS = {
    "explicit": Kernel(window=True, dropout=True),
    "dot_product": Kernel(),
}


@dataclass(frozen=True)
class Demand:
    """What a run asks of a kernel; None: not known yet, or any."""

    dropout: bool
    segments: bool = True
    window: bool = False
    backend: str | None = None
    float_type: str | None = None
    head_size: int | None = None

    def lacking(self, kernel: Kernel) -> dict[str, str]:
        """What the kernel does not support -> the key that would help, or nothing."""
        return {
            what: way
            for supported, what, way in (
                (
                    kernel.dropout or not self.dropout,
                    "dropout on attention probabilities",
                    "{}attention_probs_dropout_prob = 0.0",
                ),
                (kernel.segments or not self.segments, "segments", ""),
                (kernel.window or not self.window, "windows", ""),
                (self.backend in (None, *kernel.backends), f"version for a {self.backend}", ""),
                (self.float_type in (None, *kernel.float_types), f"version in {self.float_type}", ""),
                ((self.head_size or 0) % kernel.head_multiple == 0, f"heads of size {self.head_size}", ""),
            )
            if not supported
        }


def choose(name: str, demand: Demand, path: str = "") -> str:
    """The kernel ``name``, or for "auto" the fastest that supports the demand.

    Raises ConfigError that names the ways out; ``path`` stands before the names of keys.
    """
    able = [other for other, kernel in KERNELS.items() if not demand.lacking(kernel)]
    if name in able:
        return name
    if name == "auto" and able:
        return able[0]
    others = [f"{path}attention = {other!r}" for other in able]
    if name == "auto":
        raise ConfigError(f"no attention kernel supports all that the model asks for: {demand}")
    lacks = demand.lacking(KERNELS[name])
    ways = " or ".join([*(way.format(path) for way in lacks.values() if way), *others])
    raise ConfigError(f"{path}attention = {name!r} has no {' and no '.join(lacks)}" + (f"; set {ways}" if ways else ""))
