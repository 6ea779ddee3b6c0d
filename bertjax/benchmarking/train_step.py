"""The benchmark train: the train step of every phase as a run does it, batches made and moved included."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from bertjax.benchmarking.opened_run import opened_run, seconds_of
from bertjax.cluster.watchdog import Heartbeat
from bertjax.config import RunConfig
from bertjax.data.corpus.arrays import PreparedCorpus
from bertjax.engine.fit import updates
from bertjax.engine.position import RunPosition
from bertjax.engine.recorder import throughput
from bertjax.objectives.registry import phase_settings
from bertjax.parallel.devices import peak_flops
from bertjax.parallel.mesh import make_mesh
from bertjax.train.corpus_position import CorpusPosition
from bertjax.train.pretraining import training_batches
from bertjax.train.pretraining_job import accumulation_steps, cost_of_step, make_job


def measure(run: RunConfig, options: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    seconds = seconds_of(options)
    run, corpus, about = opened_run(run, say)
    return about | {"phases": [_phase(run, index, corpus, seconds) for index in range(len(run.phases))]}


def _phase(run: RunConfig, index: int, corpus: PreparedCorpus, seconds: float) -> dict[str, Any]:
    """The median over the steps of a phase.

    Keys: phase, sequence_length, batch_size, accumulation, devices, compile_seconds, step_seconds,
    tokens_per_second (real tokens), mfu (None where the device's peak is not known), padding_fraction, loss.
    """
    name, phase = list(run.phases.items())[index]
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor)
    job = make_job(run, mesh)
    here = RunPosition(job.initial_state(), CorpusPosition(phase=index))
    settings = [phase_settings(run, number) for number in range(len(run.phases))]
    times, real_tokens = [], []
    ended = lambda: len(times) > 4 and times[-1] - times[1] > seconds
    with training_batches(run, corpus, settings, mesh, index, here.data) as batches:
        times.append(time.perf_counter())
        for _, metrics in updates(here, job.train_step(phase), batches, Heartbeat(), ended):
            jax.block_until_ready(here.state)
            real_tokens.append(float(metrics["real_tokens"]))
            times.append(time.perf_counter())
    compile_seconds, *step_seconds = np.diff(times).tolist()  # the first step compiles
    median = float(np.median(step_seconds))
    speed = throughput(float(np.mean(real_tokens[1:])), *cost_of_step(run.model, phase), median, peak_flops(mesh))
    return {
        "phase": name,
        "sequence_length": phase.sequence_length,
        "batch_size": phase.batch_size,
        "accumulation": accumulation_steps(run, phase, mesh),
        "devices": f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
        "compile_seconds": compile_seconds,
        "step_seconds": median,
        **speed,
        "loss": float(metrics["loss"]),
    }


def lines(measured: dict[str, Any]) -> Iterator[str]:
    for phase in measured["phases"]:
        mfu = "not known: no peak on record for this device" if phase["mfu"] is None else f"{phase['mfu']:.1%}"
        parts = f" in {phase['accumulation']} parts" if phase["accumulation"] > 1 else ""
        yield ""
        yield f"{phase['phase']}: {phase['batch_size']} rows of {phase['sequence_length']} tokens{parts}"
        yield f"  {phase['tokens_per_second']:,.0f} real tokens a second on {phase['devices']}"
        yield f"  {phase['step_seconds']:.4g} s a step; {phase['compile_seconds']:.1f} s to compile"
        yield f"  MFU on real tokens {mfu}; padding {phase['padding_fraction']:.2%}"
