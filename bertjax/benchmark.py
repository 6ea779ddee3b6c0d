"""python -m bertjax.benchmark data|train --config=FILE [--seconds=N] [--json] [--config.KEY=VALUE ...]

Measures, for every phase of a config and on its corpus (prepared first where it is not):

  data     the host's part in one thread: real tokens a second, padding, seek, nanoseconds a token by stage
  train    the whole step as a run does it: real tokens a second, MFU, padding, seconds to compile

  --seconds=N    how long each phase is measured (default 10)
  --json         one JSON object instead of a table"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from bertjax.cli.command import guarded, printing
from bertjax.cli.flags import config_command
from bertjax.cli.showing import note, say
from bertjax.config import RunConfig, resolve

if TYPE_CHECKING:
    from bertjax.data.corpus.arrays import PreparedCorpus


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    options = {"seconds": (10.0, "seconds a phase"), "json": (False, "JSON output")}

    def run(config: Any, chosen: dict[str, Any], name: str) -> int:
        return printing(lambda: guarded(lambda: _run(name, resolve(config), chosen["seconds"], chosen["json"])))

    return config_command("bertjax.benchmark", argv, __doc__, RunConfig, options, run, BENCHMARKS)


def _run(name: str, run: RunConfig, seconds: float, as_json: bool) -> None:
    from bertjax.cli.progress import Display
    from bertjax.train.open_corpus import open_corpus, settled

    corpus = open_corpus(run, None, Display(note if as_json else None))  # standard output holds JSON alone
    run = settled(run, None, corpus)
    result = {
        "benchmark": name,
        "config": run.name,
        "corpus": list(run.data.corpus),
        "phases": [BENCHMARKS[name](run, index, corpus, seconds) for index in range(len(run.phases))],
    }
    if as_json:
        print(json.dumps(result, indent=2))
        return
    for phase in result["phases"]:
        say()
        say(phase["phase"])
        for key, value in phase.items():
            if key != "phase":
                say(f"  {key:<20} {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key} {number:.2f}" for key, number in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def benchmark_data(run: RunConfig, phase_index: int, corpus: PreparedCorpus, seconds: float) -> dict[str, Any]:
    """The host's part of a phase; see ``bertjax.data.stream.speed``. shown_share: of the tokens in an epoch, see
    ``PairFacts.coverage``; masked LM alone truncates nothing."""
    from bertjax.data.stream.speed import measure
    from bertjax.objectives.pair_cautions import phase_pairs
    from bertjax.objectives.registry import phase_settings, run_objective

    name, phase = list(run.phases.items())[phase_index]
    settings = phase_settings(run, phase_index)
    pairs = phase_pairs(run_objective(run), corpus.train, {name: settings}, run.seed)
    shown = pairs[name].coverage if pairs else 1.0
    found = measure(corpus.train, corpus.tokenizer, settings, run.seed, seconds, phase.batch_size)
    return {"phase": name, **found, "shown_share": shown}


def benchmark_train(run: RunConfig, phase_index: int, corpus: PreparedCorpus, seconds: float) -> dict[str, Any]:
    """The train step of a phase as a run does it, batches made and moved included; median over steps.

    Keys: phase, sequence_length, batch_size, accumulation, devices, compile_seconds, step_seconds,
    tokens_per_second (real tokens), mfu (None where the device's peak is not known), padding_fraction, loss.
    """
    import jax

    from bertjax.cluster.watchdog import Heartbeat
    from bertjax.engine.fit import updates
    from bertjax.engine.position import RunPosition
    from bertjax.engine.recorder import throughput
    from bertjax.objectives.registry import phase_settings
    from bertjax.parallel.devices import peak_flops
    from bertjax.parallel.mesh import make_mesh
    from bertjax.train.corpus_position import CorpusPosition
    from bertjax.train.pretraining import training_batches
    from bertjax.train.pretraining_job import accumulation_steps, cost_of_step, make_job

    name, phase = list(run.phases.items())[phase_index]
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor)
    job = make_job(run, mesh)
    here = RunPosition(job.initial_state(), CorpusPosition(phase=phase_index))
    settings = [phase_settings(run, index) for index in range(len(run.phases))]
    times, real_tokens = [], []
    ended = lambda: len(times) > 4 and times[-1] - times[1] > seconds
    with training_batches(run, corpus, settings, mesh, phase_index, here.data) as batches:
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


BENCHMARKS = {"data": benchmark_data, "train": benchmark_train}

if __name__ == "__main__":
    from bertjax.__main__ import script

    script("benchmark")
