"""The whole of a pretraining run, top to bottom: corpus, model, state, phases, result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertjax.config import RunConfig
from bertjax.data.pipeline import Cursor, ExampleSettings, evaluation_batches, open_batches, switch_phase
from bertjax.interop.models import export_params
from bertjax.parallel.agreement import any_of
from bertjax.parallel.devices import peak_flops
from bertjax.parallel.mesh import batch_shards, make_mesh
from bertjax.parallel.monitor import IN_STEP
from bertjax.parallel.processes import Processes
from bertjax.parallel.sharding import gathered, process_rows, to_global
from bertjax.train import Stopped
from bertjax.train import workdir as folder
from bertjax.train.checkpoints import Checkpoints
from bertjax.train.display import Display
from bertjax.train.evaluation import evaluate
from bertjax.train.initial import initial_params, open_origin
from bertjax.train.inputs import open_corpus_together
from bertjax.train.job import accumulation_steps, describe_job, make_job
from bertjax.train.log import MetricsLog, NoLog
from bertjax.train.metrics import unigram_log_probs
from bertjax.train.recorder import Recorder
from bertjax.train.state import with_params
from bertjax.train.summary import summarise, summary_lines, versions


def train(
    run: RunConfig,
    workdir: Path,
    recorded: dict[str, Any] | None,
    should_stop: Callable[[int], bool],
    display: Display,
    processes: Processes,
) -> dict[str, Any]:
    """See ``bertjax.train.run``. ``recorded``: the config.json of the run this one goes on with, or None.

    Every process goes through all of it; what is written, the first one writes.
    """
    phases, progress = list(run.phases.values()), processes.progress

    # --- Corpus: prepared and checked before anything is compiled ---------------------------------------------
    origin = open_origin(run) if run.init_from and recorded is None else None
    corpus = open_corpus_together(run, recorded, display, processes)
    settings = [ExampleSettings.from_config(run, index) for index in range(len(phases))]
    unigram = unigram_log_probs(corpus.token_counts)

    # --- Model and steps ----------------------------------------------------------------------------------------
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor)
    job = make_job(run, mesh)
    parts = {f"accumulation in {name}": accumulation_steps(run, phase, mesh) for name, phase in run.phases.items()}
    processes.must_equal("installation", versions())
    processes.must_equal("split of the batch, which follows the memory (or config.parallel.rows_per_device),", parts)
    agree = any_of(mesh)
    for line in describe_job(job):
        display.say(line)
    eval_step = job.eval_step()
    device_peak = peak_flops(mesh.devices.flat[0])

    # --- State: from the newest checkpoint, or new --------------------------------------------------------------
    identity = {"fingerprint": corpus.fingerprint, "path": str(corpus.path.resolve())}
    if processes.first:
        folder.keep_tokenizer(workdir, corpus.tokenizer.save)
        folder.write_json(workdir / "config.json", folder.config_record(run, identity, versions()))
    checkpoints = Checkpoints(workdir / "checkpoints", run.checkpoint.keep)
    step = checkpoints.latest() or 0
    processes.must_equal("newest checkpoint in the workdir, which all must share,", {"step": step})
    if step:
        display.say(f"resuming {workdir} from step {step}")
        state, position = checkpoints.restore(step, job.state_shapes())
    else:
        state = job.initial_state()
        if origin is not None:
            state = with_params(state, initial_params(origin, run, corpus.tokenizer, display.say))
        position = {"cursor": Cursor().to_json(), "phase": 0, "totals": {"seconds": 0.0, "real_tokens": 0}}
    cursor, cursor_phase = Cursor.from_json(position["cursor"]), position["phase"]
    peak = device_peak * mesh.size if device_peak else None
    log = MetricsLog(workdir, step, run.logging.tensorboard) if processes.first else NoLog()
    recorder = Recorder(run, log, display, step, position["totals"], peak)

    def held_out(index: int) -> dict[str, float]:
        rows = max(phases[index].batch_size // accumulation_steps(run, phases[index], mesh), batch_shards(mesh))
        batches = evaluation_batches(corpus.held_out, corpus.tokenizer, settings[index], rows, run.evaluation.max_rows)
        own = process_rows(rows, mesh)
        to_device = lambda batch: to_global({name: field[own] for name, field in batch.items()}, mesh)
        with progress.pause("evaluating"):
            return evaluate(eval_step, state.params, batches, to_device, unigram)

    # --- Phases ---------------------------------------------------------------------------------------------------
    evaluated_at, result = None, {}
    try:
        for index, phase in enumerate(phases):
            phase_end = run.phase_start(index) + phase.steps
            if step >= phase_end:
                continue
            while cursor_phase < index:  # the documents go on where the phase before stopped in them
                cursor, cursor_phase = switch_phase(cursor, cursor_phase), cursor_phase + 1
            recorder.begin_phase(index)
            train_step = progress.slow_at_first(job.train_step(phase))
            with open_batches(
                corpus.train,
                corpus.tokenizer,
                settings,
                seed=run.seed,
                phase_index=index,
                batch_size=phase.batch_size,
                cursor=cursor,
                rows=process_rows(phase.batch_size, mesh),
                prefetch=run.data.prefetch,
            ) as batches:
                while step < phase_end:
                    progress.at("making a batch", step + 1)
                    batch, cursor = next(batches)
                    progress.at(IN_STEP, step + 1)
                    state, metrics = train_step(state, to_global(batch, mesh))
                    step += 1
                    recorder.push(step, metrics)

                    every = run.evaluation.every_steps
                    stopping = agree(should_stop(step)) and step < run.total_steps
                    evaluating = step == phase_end or (every and step % every == 0)
                    saving = step == phase_end or stopping or step % run.checkpoint.every_steps == 0
                    if evaluating or saving:
                        recorder.flush()  # what is saved is finite and counts its own step
                    if evaluating:
                        result, evaluated_at = held_out(index), step
                        recorder.evaluated(step, result)
                    if saving:
                        position = {"cursor": cursor.to_json(), "phase": cursor_phase, "totals": recorder.totals()}
                        with progress.pause("saving"):
                            checkpoints.save(step, state, position)
                    if stopping:
                        with progress.pause("saving"):
                            checkpoints.wait()
                        raise Stopped(
                            f"stopped at step {step}; all is saved in {workdir}, run the same command to go on"
                        )
        with progress.pause("saving"):
            checkpoints.wait()
    finally:
        recorder.close()
        checkpoints.close()  # also after an error: a save that has begun is finished

    # --- Result -----------------------------------------------------------------------------------------------------
    if evaluated_at != run.total_steps:  # a finished run, started again
        result = held_out(run.phase_at(run.total_steps - 1))
    summary = summarise(run, result, position["totals"], corpus.manifest["held_out"]["kind"])
    with progress.pause("exporting"):
        params = gathered(state.params, mesh)
        if processes.first:
            export_params(workdir / "model", run.model, params, corpus.tokenizer)
            folder.write_json(workdir / "summary.json", summary)
    for line in summary_lines(summary, workdir):
        display.say(line)
    return summary
