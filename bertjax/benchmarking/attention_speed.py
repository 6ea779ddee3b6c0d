"""The benchmark attention: every kernel that runs on this backend beside ``explicit``, in the shapes of a config."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from bertjax.attention_kernels import KERNELS, choose
from bertjax.benchmarking.attention_cases import (
    Arrays,
    Case,
    Result,
    differences,
    forward,
    forward_and_backward,
    random_arrays,
)
from bertjax.benchmarking.opened_run import seconds_of, with_decided_precision
from bertjax.benchmarking.timing import timer
from bertjax.cli.showing import short
from bertjax.config import RunConfig
from bertjax.config_schema import nearest
from bertjax.errors import ConfigError
from bertjax.model.precision import FLOAT32, Precision, precision_named
from bertjax.parallel.mesh import make_mesh
from bertjax.planning.programs import split_of

REFERENCE = "explicit"
MOST_ROWS = {"cpu": 8}  # of a call, where the config has more
COMPARED_ROWS = 8  # the first rows of a result: the reference writes [B, N, S, S] out in float32
INTERPRETED_ROWS = 1
MOST_EXAMPLES = 3  # in a row, where the config allows more: pairs of real text fill a row with two or three
LEAST_ROUNDS = 3


def measure(run: RunConfig, options: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    seconds, backend, asked = seconds_of(options), jax.default_backend(), _asked(options["kernels"])
    rows, window = _number(options, "rows"), _number(options, "window")
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor)
    run = with_decided_precision(run, mesh, say)
    model, precision = run.model, precision_named(run.precision, backend)
    rates = dict.fromkeys((model.attention_probs_dropout_prob, 0.0))
    windows = [None, window] if window else [None]
    phases = []
    for name, phase in run.phases.items():
        held = split_of(run, phase, mesh).rows
        whole = Case(
            rows=rows or min(held, MOST_ROWS.get(backend, held)),
            length=phase.sequence_length,
            heads=model.num_attention_heads,
            head_size=model.hidden_size // model.num_attention_heads,
            examples=min(MOST_EXAMPLES, run.data.max_examples_per_row) if run.data.packing else 1,
        )
        cases = [replace(whole, rate=rate, window=window) for rate in rates for window in windows]
        found = []
        for case in cases:
            say(f"{name}: {in_words(case.rate, case.window)} ...")
            found.append(compare(case, asked, precision, backend, seconds / len(cases)))
        phases.append({"phase": name, "rows": whole.rows, "sequence_length": whole.length, "cases": found})
        phases[-1] |= {"heads": whole.heads, "head_size": whole.head_size, "examples_per_row": whole.examples}
    return {"device_kind": jax.devices()[0].device_kind, "precision": run.precision, "phases": phases}


def _asked(names: str) -> tuple[str, ...]:
    """The kernels that --kernels names; empty: all that run here. Raises ConfigError."""
    asked = tuple(name.strip() for name in names.split(",")) if names else ()
    for name in asked:
        if name not in KERNELS:
            raise ConfigError(f"--kernels: unknown kernel {name!r}; {nearest(name, KERNELS)}")
    return asked


def _number(options: Mapping[str, Any], name: str) -> int:
    if options[name] < 0:
        raise ConfigError(f"--{name} = {options[name]} must be 0 or more")
    return options[name]


def compare(case: Case, asked: Collection[str], precision: Precision, backend: str, seconds: float) -> dict[str, Any]:
    """All kernels, or those asked for, on one case. The reference is always among them."""
    exact = random_arrays(case)
    # What the kernels are given, the reference is given too: rounding the inputs is no fault of theirs.
    arrays = exact.cast(precision.activations)
    same = arrays.first(COMPARED_ROWS)
    wanted = forward_and_backward(REFERENCE, case, FLOAT32)(same.cast(np.float32))
    rows, timers = {}, {}
    for name, kernel in KERNELS.items():
        if asked and name not in (*asked, REFERENCE):
            continue
        lacks = case.demand(backend, precision).lacking(kernel)
        interpreted = bool(lacks) and name in asked and backend == "cpu"
        if interpreted:
            lacks = case.demand(None, precision).lacking(kernel)
        if lacks:
            rows[name] = {"kernel": name, "cannot": f"no {' and no '.join(lacks)}"}
            continue
        try:
            if interpreted:
                rows[name] = _interpreted(name, case, precision, arrays, wanted)
            else:
                rows[name], timers[name] = _prepared(name, case, precision, arrays, wanted)
        except Exception as error:  # whatever a compiler or a kernel of another package raises: the others go on
            rows[name] = {"kernel": name, "cannot": f"it fails: {type(error).__name__}: {short(error, 300)}"}
    for name, found in _medians(timers, seconds).items():
        rows[name] |= found
    reference = rows[REFERENCE].get("forward_backward_seconds")
    for name in timers:
        both = rows[name]["forward_backward_seconds"]
        rows[name] |= {"flops_per_second": case.flops / both, "speedup": reference and reference / both}
    auto = choose("auto", case.demand(backend, precision))
    return {"dropout": case.rate, "window": case.window, "auto": auto, "kernels": list(rows.values())}


Timers = tuple[Callable[[], float], Callable[[], float]]


def _prepared(
    name: str, case: Case, precision: Precision, arrays: Arrays, wanted: Result
) -> tuple[dict[str, Any], Timers]:
    """(What is known of a kernel before it is timed, its timers)."""
    both = forward_and_backward(name, case, precision)
    row = _differences(name, case, precision, arrays, both(arrays), wanted)
    temporaries = both.lower(arrays).compile().memory_analysis().temp_size_in_bytes  # type: ignore[attr-defined]
    row |= {"temporaries_bytes": temporaries, "interpreted": False}
    return row, (timer(forward(name, case, precision), arrays), timer(both, arrays))


def _interpreted(name: str, case: Case, precision: Precision, arrays: Arrays, wanted: Result) -> dict[str, Any]:
    """A kernel for another backend in Pallas's interpreter, on few rows: its differences; its speed means nothing."""
    arrays, wanted = arrays.first(INTERPRETED_ROWS), wanted.first(INTERPRETED_ROWS)
    found = forward_and_backward(name, case, precision)(arrays)
    return _differences(name, case, precision, arrays, found, wanted) | {"interpreted": True}


def _differences(
    name: str, case: Case, precision: Precision, arrays: Arrays, found: Result, wanted: Result
) -> dict[str, Any]:
    """From explicit attention in float32: of the run's precision, and of float32 where the kernel has it."""
    count = len(wanted.output)
    row = {"kernel": name, "cannot": None, **differences(found.first(count), wanted), "float32": None}
    if precision == precision_named("float32", jax.default_backend()):
        row["float32"] = {key: row[key] for key in ("output_difference", "gradient_difference")}
    elif "float32" in KERNELS[name].float_types:
        exact = forward_and_backward(name, case, FLOAT32)(arrays.first(count).cast(np.float32))
        row["float32"] = differences(exact, wanted)
    return row


def _medians(timers: Mapping[str, Timers], seconds: float) -> dict[str, dict[str, float]]:
    """Every kernel's median seconds; they take turns, so that a machine that slows down slows all."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in timers}
    began, rounds = time.perf_counter(), 0
    while rounds < LEAST_ROUNDS or time.perf_counter() - began < seconds:
        for name, (ahead, both) in timers.items():
            times[name].append((ahead(), both()))
        rounds += 1
    names = ("forward_seconds", "forward_backward_seconds")
    return {name: dict(zip(names, map(float, np.median(found, axis=0)), strict=True)) for name, found in times.items()}


def in_words(rate: float, window: int | None) -> str:
    return f"{f'dropout {rate:g}' if rate else 'no dropout'}, {f'window {window}' if window else 'no window'}"


def lines(measured: dict[str, Any]) -> Iterator[str]:
    for phase in measured["phases"]:
        yield ""
        yield (
            f"{phase['phase']}: {phase['rows']:,} rows of {phase['sequence_length']:,} tokens in "
            f"{phase['examples_per_row']} examples, {phase['heads']} heads of {phase['head_size']}, "
            f"{measured['precision']}, on {measured['device_kind']}"
        )
        for case in phase["cases"]:
            yield f"  {in_words(case['dropout'], case['window'])}; attention = 'auto' takes {case['auto']}"
            for row in case["kernels"]:
                yield f"    {row['kernel']:<12} {_in_line(row)}"


def _in_line(row: dict[str, Any]) -> str:
    if row["cannot"]:
        return f"not here: {row['cannot']}"
    exact, is_itself = row["float32"], row["kernel"] == REFERENCE and not row["output_difference"]
    close = (
        "what the others are held against"
        if is_itself
        else f"float32 differs by {exact['output_difference']:.1e}, its gradients by {exact['gradient_difference']:.1e}"
        if exact
        else f"differs by {row['output_difference']:.1e}, its gradients by {row['gradient_difference']:.1e}"
    )
    if row["interpreted"]:
        return f"in Pallas's interpreter, not timed; {close}"
    ahead, both = (row[name] * 1e3 for name in ("forward_seconds", "forward_backward_seconds"))
    faster = f", {row['speedup']:.2f} x explicit" if row["speedup"] and row["kernel"] != REFERENCE else ""
    return (
        f"{ahead:.4g} ms forward, {both:.4g} ms with backward{faster}; {row['flops_per_second'] / 1e12:.3g} TFLOP/s; "
        f"{row['temporaries_bytes'] / 2**20:,.4g} MiB of temporaries; {close}"
    )
