"""One pretraining step of bertjax, repeated on one synthetic batch: what torch_pretraining.py measures of the peer.

python tests/benchmarks/pretraining_step.py --shape=base128 [--rows=N] [--precision=bfloat16] [--seconds=5]
    [--config.KEY=VALUE ...]

A step is forward and backward pass with dropout .1, clipping and AdamW. Without ``--rows`` as many rows as the devices
have memory for, 256 at most; a number that does not fit after all is halved. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from typing import Any

import jax
from cpu_against_torch import config_of
from pretraining_shapes import SHAPES, Shape, synthetic_batch

import bertjax
from bertjax.benchmarking.compile_times import compiled
from bertjax.benchmarking.program_work import program_work
from bertjax.benchmarking.step_times import take_steps
from bertjax.config import RunConfig, resolve
from bertjax.engine.position import RunPosition
from bertjax.engine.recorder import throughput
from bertjax.model.attention import kernel_name
from bertjax.model.precision import precision_named
from bertjax.parallel.devices import peak_flops
from bertjax.parallel.mesh import batch_shards, make_mesh
from bertjax.parallel.sharding import to_global
from bertjax.train.corpus_position import CorpusPosition
from bertjax.train.pretraining_job import accumulation_steps, cost_of_step, make_job, rows_by_memory

MOST_ROWS = 256
NO_MEMORY = ("RESOURCE_EXHAUSTED", "exceeds available", "Out of memory", "out of memory")


def run_of(shape: Shape, options: argparse.Namespace) -> RunConfig:
    return resolve(config_of(shape, options.precision, options.changes))


def rows_that_fit(shape: Shape, options: argparse.Namespace, mesh: Any) -> int:
    """The largest power of two, up to ``MOST_ROWS``, that memory is expected to hold on all devices without parts."""
    run = run_of(dataclasses.replace(shape, rows=batch_shards(mesh)), options)
    phase = next(iter(run.phases.values()))
    fits = min(MOST_ROWS, rows_by_memory(run, phase, mesh) * batch_shards(mesh))
    return 1 << (max(1, fits).bit_length() - 1)


def measure(shape: Shape, options: argparse.Namespace, mesh: Any) -> dict[str, Any]:
    run = run_of(shape, options)
    phase, job = next(iter(run.phases.values())), make_job(run, mesh)
    batch, here = to_global(synthetic_batch(shape), mesh), RunPosition(job.initial_state(), CorpusPosition())
    step = compiled(job.train_step(phase), here.state, batch)
    again = itertools.repeat((batch, here.data))
    take_steps(here, step.program, again, 0.0)
    taken = take_steps(here, step.program, again, options.seconds)
    slots, flops = cost_of_step(run.model, phase)
    work, stats = program_work(step.program, mesh), mesh.local_devices[0].memory_stats() or {}
    device = mesh.devices.flat[0]
    precision = precision_named(run.precision, device.platform)
    return {
        "shape": options.shape,
        "rows": shape.rows,
        "accumulation": accumulation_steps(run, phase, mesh),
        "length": shape.length,
        "precision": run.precision,
        "attention": kernel_name(run.model, precision, backend=device.platform),
        "device": f"{mesh.size} x {device.device_kind}",
        "jax": jax.__version__,
        "bertjax": bertjax.__version__,
        "steps": len(taken.seconds),
        "step_seconds": taken.median,
        "rows_per_second": shape.rows / taken.median,
        **throughput(slots, slots, flops, taken.median, peak_flops(mesh)),
        "flops_formula": flops,
        **work,
        "bytes_per_token": work["bytes_accessed"] / slots,
        "roofline_share": work["roofline_seconds"] and work["roofline_seconds"] / taken.median,
        "temporaries_bytes": step.program.memory_analysis().temp_size_in_bytes,
        "peak_memory_bytes": stats.get("peak_bytes_in_use"),
        "trace_seconds": step.trace_seconds,
        "compile_seconds": step.compile_seconds,
        "from_compile_cache": step.from_cache,
        "loss": float(taken.metrics[-1]["loss"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--shape", choices=SHAPES, default="base128")
    parser.add_argument("--rows", type=int, help="rows a step")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--seconds", type=float, default=5.0)
    options, options.changes = parser.parse_known_args()
    if unknown := [change for change in options.changes if not change.startswith("--config.")]:
        parser.error(f"unknown argument {unknown[0]}")
    mesh = make_mesh(-1, 1, 1)
    rows = options.rows or rows_that_fit(SHAPES[options.shape], options, mesh)
    while True:
        try:
            found = measure(dataclasses.replace(SHAPES[options.shape], rows=rows), options, mesh)
        except jax.errors.JaxRuntimeError as error:
            if rows == 1 or not any(words in str(error) for words in NO_MEMORY):
                raise
            print(f"{rows} rows do not fit", file=sys.stderr)
            rows //= 2
        else:
            print(json.dumps(found))
            return


if __name__ == "__main__":
    main()
