"""The table of benchmarks; without jax, as the command line is read by it.

A new benchmark is a module here and a row in ``BENCHMARKS``. The module has two functions::

    measure(run, options, say) -> dict     # what --json prints beside the names of benchmark and config
    lines(measured) -> Iterator[str]       # the same for a person

run: the resolved config. options: the value of each option of the row, by name. say(line): shows progress. ``measure``
raises ``bertjax.errors`` for what a user can mend; a module imports jax inside ``measure``, if at all at its top.
"""

import importlib
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

# Name of an option -> (default, help, as ``bertjax.cli.flags.parse`` takes them; value as the help shows it).
Options = Mapping[str, tuple[Any, str]]

_WIDTH = 118
_INDENT = 20
_VALUES = {"profile": "=DIR", "check": "=FILE", "topology": "=NAME", "kernels": "=NAMES"}


@dataclass(frozen=True)
class Benchmark:
    """module: in this package. about: what it measures, for the help. options: those of this benchmark alone."""

    module: str
    about: str
    options: Options = field(default_factory=dict)

    def load(self) -> ModuleType:
        return importlib.import_module(f"bertjax.benchmarking.{self.module}")


_SECONDS: Options = {"seconds": (10.0, "how long each phase is measured")}

BENCHMARKS = {
    "train": Benchmark(
        "train_step",
        "the train step as a run does it: real tokens a second with the real feed and with one repeated batch, MFU, "
        "FLOPs and bytes of the compiled program, the roofline, the rate of plain products, memory, seconds to compile",
        {**_SECONDS, "profile": (None, "folder for a trace of some steps, for TensorBoard and Perfetto")},
    ),
    "data": Benchmark(
        "data_pipeline",
        "the host's part in one thread: real tokens a second, padding, seek, nanoseconds a token by stage",
        _SECONDS,
    ),
    "attention": Benchmark(
        "attention_speed",
        "every attention kernel that runs here beside explicit, with and without dropout, in the shapes of the config, "
        "rows packed: seconds forward and with backward, memory, the largest differences of outputs and gradients; and "
        "why the others cannot run. It needs no corpus",
        {
            **_SECONDS,
            "kernels": ("", "a,b,...: these alone; on a CPU also kernels for others, in Pallas's interpreter"),
            "rows": (0, "rows of a call; 0: as many as a device holds in the run, at most 8 on a CPU"),
            "window": (0, "also with a window of so many places, two-sided; 0: none"),
        },
    ),
    "compiled": Benchmark(
        "compiled_programs",
        "what the compiled step moves on machines that need not be present, without running it: temporaries, FLOPs and "
        "bytes a token, roofline, bytes reduced, and the operations with the most traffic. It needs no corpus",
        {
            "topology": ("", "machines as plan takes them, such as v5e:2x2, h200:1 or local"),
            "check": (None, "figures that an earlier --json printed: exit code 4 where these are worse"),
        },
    ),
}


def help_text(head: str) -> str:
    """The command's help: ``head``, then each benchmark with its options."""
    parts = [head.rstrip(), ""]
    for name, benchmark in BENCHMARKS.items():
        parts += _entry(f"  {name}", benchmark.about)
        for option, (default, about) in benchmark.options.items():
            switch = isinstance(default, bool)
            value = (
                ""
                if switch
                else {int: "=N", float: "=N"}.get(
                    type(default), "=DIR" if option == "profile" else f"={option.upper()}"
                )
            )
            shown = f" (default {default})" if default and not switch else ""
            parts += _entry(f"    --{option}{value}", about + shown)
        parts.append("")
    return "\n".join(parts).rstrip()


def _entry(name: str, text: str) -> list[str]:
    first, *rest = textwrap.wrap(text, _WIDTH - _INDENT)
    # A name that is too long for its column stands on a line of its own.
    start = [f"{name:<{_INDENT}}{first}"] if len(name) < _INDENT - 1 else [name, " " * _INDENT + first]
    return start + [" " * _INDENT + line for line in rest]
