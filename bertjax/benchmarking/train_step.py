"""The benchmark train: the train step of every phase as a run does it, beside what its program and the device allow."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from bertjax.benchmarking.compile_times import compiled
from bertjax.benchmarking.layer_products import product_rate
from bertjax.benchmarking.opened_run import opened_run, seconds_of, with_decided_precision
from bertjax.benchmarking.program_work import program_work
from bertjax.benchmarking.step_times import fed_and_repeated, take_steps
from bertjax.benchmarking.trace import STEPS, trace_folder, write_trace
from bertjax.config import RunConfig, with_values
from bertjax.data.corpus.arrays import PreparedCorpus
from bertjax.engine.position import RunPosition
from bertjax.engine.recorder import throughput
from bertjax.model.precision import precision_named
from bertjax.objectives.registry import phase_settings
from bertjax.parallel.devices import GIB, peak_flops
from bertjax.parallel.mesh import make_mesh
from bertjax.planning.programs import split_of
from bertjax.train.corpus_position import CorpusPosition
from bertjax.train.pretraining import training_batches
from bertjax.train.pretraining_job import cost_of_step, decided_precision, make_job

PRODUCTS_SHARE = 0.1  # of a phase's time, for the plain products


def measure(run: RunConfig, options: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    seconds, profile = seconds_of(options), trace_folder(options["profile"])
    run, corpus, about = opened_run(run, say)
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor)
    if run.precision == "auto":
        run = with_values(run, {"precision": decided_precision(run, mesh)[0]})
    run = with_decided_precision(run, mesh, say)
    device = mesh.devices.flat[0]
    about |= {"devices": mesh.size, "device_kind": device.device_kind, "peak_flops": peak_flops(mesh)}
    phases = [_phase(run, index, corpus, mesh, seconds, profile, say) for index in range(len(run.phases))]
    return about | {"precision": run.precision, "phases": phases}


def _phase(
    run: RunConfig,
    index: int,
    corpus: PreparedCorpus,
    mesh: Mesh,
    seconds: float,
    profile: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Everything about the step of one phase; docs/speed.md says what each figure means."""
    name, phase = list(run.phases.items())[index]
    split, job = split_of(run, phase, mesh), make_job(run, mesh)
    here = RunPosition(job.initial_state(), CorpusPosition(phase=index))
    settings = [phase_settings(run, number) for number in range(len(run.phases))]
    with training_batches(run, corpus, settings, mesh, index, here.data) as batches:
        batch, here.data = next(batches)
        say(f"{name}: compiling the step ...")
        step = compiled(job.train_step(phase), here.state, batch)
        take_steps(here, step.program, iter([(batch, here.data)]), 0.0)  # the first one allocates
        say(f"{name}: measuring for about {seconds:g} s, at least four steps ...")
        fed, repeated = fed_and_repeated(here, step.program, batches, batch, seconds)
        trace = None
        if profile is not None:
            take = lambda: take_steps(here, step.program, batches, 0.0).metrics
            trace = write_trace(profile / name, take)
    precision = precision_named(run.precision, mesh.devices.flat[0].platform)
    products = product_rate(run.model, precision, split.rows, phase.sequence_length)(PRODUCTS_SHARE * seconds)
    work = program_work(step.program, mesh)
    slots, flops_formula = cost_of_step(run.model, phase)
    real_tokens = float(np.mean([one["real_tokens"] for one in fed.metrics]))
    return {
        "phase": name,
        "sequence_length": phase.sequence_length,
        "batch_size": phase.batch_size,
        "rows_per_device": split.rows,
        "accumulation": split.accumulation,
        "steps": len(fed.seconds),
        "step_seconds": fed.median,
        "rows_per_second": phase.batch_size / fed.median,
        **throughput(real_tokens, slots, flops_formula, fed.median, peak_flops(mesh)),
        "repeated_batch_step_seconds": repeated.median,
        "step_spread": max(fed.spread, repeated.spread),
        "feed_overhead": fed.median / repeated.median - 1.0,
        "trace_seconds": step.trace_seconds,
        "compile_seconds": step.compile_seconds,
        "from_compile_cache": step.from_cache,
        "flops_formula": flops_formula,
        **work,
        "bytes_per_token": work["bytes_accessed"] / slots,
        "roofline_share": work["roofline_seconds"] and work["roofline_seconds"] / fed.median,
        "products_flops": products * mesh.size,
        "products_share": flops_formula / fed.median / (products * mesh.size),
        **_memory(step.program, mesh),
        "loss": float(fed.metrics[-1]["loss"]),
        "trace": trace,
    }


def _memory(program: Any, mesh: Mesh) -> dict[str, Any]:
    """Bytes on one device: of the compiled step, and the most that this process has used, where the device tells."""
    compiled, stats = program.memory_analysis(), mesh.local_devices[0].memory_stats() or {}
    return {
        "temporaries_bytes": compiled.temp_size_in_bytes,
        "state_and_batch_bytes": compiled.argument_size_in_bytes,
        "peak_memory_bytes": stats.get("peak_bytes_in_use"),
    }


def lines(measured: dict[str, Any]) -> Iterator[str]:
    count, kind, peak = measured["devices"], measured["device_kind"], measured["peak_flops"]
    for phase in measured["phases"]:
        parts = f" in {phase['accumulation']} parts" if phase["accumulation"] > 1 else ""
        yield ""
        yield (
            f"{phase['phase']}: {phase['batch_size']:,} rows of {phase['sequence_length']:,} tokens{parts}, "
            f"{measured['precision']}, on {count} x {kind}"
        )
        for name, text in _figures(phase, peak):
            yield f"  {name:<10} {text}"


def _figures(phase: dict[str, Any], peak: float | None) -> Iterator[tuple[str, str]]:
    step, TERA = phase["step_seconds"], 1e12
    yield (
        "speed",
        f"{phase['tokens_per_second']:,.0f} real tokens a second, {phase['rows_per_second']:,.4g} rows; "
        f"{step:.4g} s a step, the median of {phase['steps']}; padding {phase['padding_fraction']:.2%}",
    )
    overhead, spread = phase["feed_overhead"], phase["step_spread"]
    hidden = ", less than the steps vary" if abs(overhead) < spread else ""
    yield (
        "feed",
        f"{phase['repeated_batch_step_seconds']:.4g} s a step on one repeated batch: making and moving batches costs "
        f"{overhead:.1%}{hidden} (+-{spread:.1%})",
    )
    yield (
        "work",
        f"{phase['flops'] / TERA:.3g} TFLOP a step, {phase['flops'] / phase['flops_formula']:.2f} times the formula; "
        f"{phase['bytes_accessed'] / 1e9:.4g} GB of memory traffic, {phase['bytes_per_token'] / 1e6:.3g} MB a token",
    )
    if peak is not None:
        yield "MFU", f"{phase['mfu']:.1%} of {peak / TERA:,.0f} TFLOP/s, counting real tokens alone"
        yield (
            "roofline",
            f"{phase['roofline_seconds']:.4g} s a step if every operation ran at data-sheet rates, "
            f"{phase['memory_bound_share']:.0%} of it bound by memory; this step reaches {phase['roofline_share']:.1%} "
            f"of that speed",
        )
    yield (
        "products",
        f"{phase['products_flops'] / TERA:.4g} TFLOP/s in plain products of the layers' shapes; the step reaches "
        f"{phase['products_share']:.1%} of that rate"
        + ("" if peak else " (the device's peak is not on record: no MFU)"),
    )
    gib = {name: (phase[f"{name}_bytes"] or 0) / GIB for name in ("state_and_batch", "temporaries", "peak_memory")}
    most = f"; {gib['peak_memory']:.3g} GiB used at most" if gib["peak_memory"] else ""
    yield (
        "memory",
        f"{gib['state_and_batch']:.3g} GiB a device of state and batch, {gib['temporaries']:.3g} of temporaries{most}",
    )
    how = "loaded from the cache of compiled programs" if phase["from_compile_cache"] else "compiled"
    yield "compile", f"{how} in {phase['compile_seconds']:.1f} s, after {phase['trace_seconds']:.1f} s of tracing"
    if phase["trace"]:
        yield "trace", f"of {STEPS} steps: open {phase['trace']} at https://ui.perfetto.dev"
        folder = Path(phase["trace"]).parents[3]
        yield "", f"or with TensorBoard: pip install tensorboard xprof; tensorboard --logdir={folder}"
