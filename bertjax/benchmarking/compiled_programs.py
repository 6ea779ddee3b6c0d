"""The benchmark compiled: the step of every phase, compiled for machines that need not be present, and what it moves.

Nothing is run. ``--check`` holds the figures against those of an earlier ``--json``. This module does not import jax at
its top: the settings of the compilers must stand before jax starts.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bertjax.cli.paths import given_path
from bertjax.cli.showing import short
from bertjax.config import RunConfig
from bertjax.errors import ConfigError, Regression

GIB = 2**30
# What --check holds, by name of the figure: how much larger it may be than the stored one.
HELD = {"temporaries_bytes": 0.02, "bytes_per_token": 0.02, "flops": 0.01, "bytes_reduced": 0.01, "square_arrays": 0.0}


def measure(run: RunConfig, options: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    from bertjax.planning.topologies import prepare_environment, read_topology

    topology = read_topology(options["topology"])
    stored = None if options["check"] is None else read_figures(given_path(options["check"], "--check"))
    prepare_environment(topology)

    from bertjax.benchmarking.compiled_step import compiled_phases

    found = compiled_phases(run, topology, say)
    if stored is not None:
        check(found, stored)
        say(f"within the figures of {options['check']}")
    return found


def read_figures(path: Path) -> dict[str, Any]:
    """What an earlier ``--json`` printed. Raises ConfigError."""
    try:
        stored = json.loads(path.read_text())
        if {"topology", "versions", "phases"} <= set(stored):
            return stored
    except OSError as error:
        raise ConfigError(f"--check = {path}: {error.strerror}") from None
    except (ValueError, TypeError):
        pass
    raise ConfigError(f"--check = {path} does not hold what bertjax benchmark compiled --json prints")


def check(found: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raises Regression if a figure of ``HELD`` is larger than the stored one by more than it may be; ConfigError if
    the stored figures are of another topology or of other phases."""
    of = lambda one: (
        one["topology"],
        [(p["phase"], p["sequence_length"], p["rows_per_device"]) for p in one["phases"]],
    )
    if of(found) != of(stored):
        raise ConfigError(f"--check holds figures of {of(stored)}, not of {of(found)}")
    worse = [
        f"{now['phase']}: {name} {now[name]:,.6g}, stored {before[name]:,.6g}"
        for now, before in zip(found["phases"], stored["phases"], strict=True)
        for name, more in HELD.items()
        if now[name] > before[name] * (1.0 + more)
    ]
    if worse:
        changed = "" if found["versions"] == stored["versions"] else f"; stored with {stored['versions']}"
        raise Regression(f"the compiled program is worse: {'; '.join(worse)}{changed}")


def lines(measured: dict[str, Any]) -> Iterator[str]:
    for phase in measured["phases"]:
        parts = f" in {phase['accumulation']} parts" if phase["accumulation"] > 1 else ""
        yield ""
        yield (
            f"{phase['phase']}: {phase['batch_size']:,} rows of {phase['sequence_length']:,} tokens, "
            f"{phase['rows_per_device']} a device{parts}, {measured['precision']}, for {measured['topology']}"
        )
        for name, text in _figures(phase):
            yield f"  {name:<12} {text}"


def _figures(phase: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield (
        "memory",
        f"{phase['temporaries_bytes'] / GIB:.3g} GiB of temporaries a device, "
        f"{phase['state_and_batch_bytes'] / GIB:.3g} GiB of state and batch",
    )
    yield (
        "work",
        f"{phase['flops'] / 1e12:.4g} TFLOP a step, {phase['flops'] / phase['flops_formula']:.3f} times the formula; "
        f"{phase['bytes_accessed'] / 1e9:.4g} GB of memory traffic, {phase['bytes_per_token'] / 1e6:.3f} MB a token",
    )
    if phase["roofline_seconds"] is not None:
        yield (
            "roofline",
            f"{phase['roofline_seconds'] * 1e3:.4g} ms a step, {phase['memory_bound_share']:.0%} of it bound by "
            f"memory; the formula's arithmetic alone {phase['arithmetic_seconds'] * 1e3:.4g} ms: an MFU of at most "
            f"{phase['arithmetic_seconds'] / phase['roofline_seconds']:.2f}",
        )
    if phase["bytes_reduced"]:
        yield (
            "collectives",
            f"{phase['bytes_reduced'] / 1e9:.4g} GB reduced a device and step, "
            f"{phase['bytes_reduced'] / phase['gradient_bytes']:.2f} times the gradients",
        )
    squares = phase["square_arrays"]
    yield "attention", f"{squares} arrays of [rows, heads, S, S] in main memory" if squares else "no [B, N, S, S] array"
    yield "most traffic", "of operations by what they were traced from:"
    for row in phase["largest"]:
        yield "", f"{row['bytes_per_token'] / 1e3:8.1f} kB a token  {row['times']:6,} x {short(row['source'], 80)}"
