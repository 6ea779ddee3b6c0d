"""The attention kernels and what each supports; without jax, as configs are checked against it.

A new kernel is a file ``model/attention/NAME.py`` with a function ``attend``, and a row in ``KERNELS``.
"""

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
    per_device: bool = False  # the compiler cannot divide it: each device calls it on its own rows and heads


# The fastest first. Measured on CPUs: explicit 47 ms, dot_product 74 ms.
KERNELS = {
    "fused": Kernel(window=True, dropout=True, backends=("tpu", "gpu"), head_multiple=8, per_device=True),
    "explicit": Kernel(window=True, dropout=True),
    "dot_product": Kernel(),
}


_DROPOUT = "dropout on attention probabilities"


@dataclass(frozen=True)
class Demand:
    """What a run asks of a kernel; None: any, or not known yet."""

    dropout: bool
    segments: bool = True
    window: bool = False
    backend: str | None = None
    float_type: str | None = None
    head_size: int = 0

    def lacking(self, kernel: Kernel) -> list[str]:
        """What the kernel does not support of it."""
        checks = (
            (kernel.dropout or not self.dropout, _DROPOUT),
            (kernel.segments or not self.segments, "segments"),
            (kernel.window or not self.window, "windows"),
            (self.backend in (None, *kernel.backends), f"version for a {self.backend}"),
            (self.float_type in (None, *kernel.float_types), f"version in {self.float_type}"),
            (self.head_size % kernel.head_multiple == 0, f"heads of size {self.head_size}"),
        )
        return [what for supported, what in checks if not supported]


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
