"""The whole of a pretraining run, top to bottom: corpus, model, state, phases, result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertjax import unfinished
from bertjax.cli.display import Display
from bertjax.cluster.processes import Processes
from bertjax.cluster.watchdog import IN_STEP
from bertjax.config import PhaseConfig, RunConfig
from bertjax.data.corpus.text_cautions import text_cautions
from bertjax.data.stream.pair_cautions import check_pairs, pair_lines, phase_pairs
from bertjax.data.stream.pipeline import ExampleSettings, evaluation_batches, open_batches
from bertjax.data.stream.settings import ORDER
from bertjax.data.stream.word_cautions import check_words
from bertjax.engine.checkpoint.checkpoints import Checkpoints
from bertjax.engine.ending import orderly_end
from bertjax.engine.fit import Interrupted
from bertjax.engine.guard import Guard, Setback
from bertjax.engine.machine import versions
from bertjax.engine.metrics_log import MetricsLog, NoLog
from bertjax.engine.optimizers import check_optimizer
from bertjax.engine.recorder import Recorder, Stretch
from bertjax.engine.state import with_params
from bertjax.errors import Stopped
from bertjax.evaluation.inline_suites import InlineSuites, in_words
from bertjax.interop.models import export_params
from bertjax.objectives.unigram import unigram_log_probs
from bertjax.parallel.agreement import any_of
from bertjax.parallel.deterministic import check_sums
from bertjax.parallel.devices import peak_flops
from bertjax.parallel.mesh import batch_shards, make_mesh
from bertjax.parallel.sharding import gathered, process_rows, to_global
from bertjax.reporting import refresh_report
from bertjax.train.cautions import cautions
from bertjax.train.first_weights import initial_params, open_origin
from bertjax.train.held_out_loss import evaluate, evaluation_line, over
from bertjax.train.job import accumulation_steps, check_sizes, describe_job, make_job, work_of_step
from bertjax.train.open_corpus import open_corpus_together, settled
from bertjax.train.position import DUE, Standing, data_order, is_due, run_constants
from bertjax.train.summary import summarise, summary_lines
from bertjax.workdir import files as folder
from bertjax.workdir.same_run import fingerprints, origin_fingerprint

# Deterministic values of a train row, in the order they are written.
TRAIN_FIELDS = (
    "loss",
    "mlm_loss",
    "mlm_accuracy",
    "nsp_loss",
    "nsp_accuracy",
    "learning_rate",
    "grad_norm",
    "loss_scale",
)


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
    progress = processes.progress

    # --- Sizes: what cannot be is refused before anything is built ---------------------------------------------
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor)
    check_optimizer(run.optimizer.name)
    check_sizes(run, mesh)

    # --- Corpus: prepared and checked before anything is compiled ---------------------------------------------
    begins = run.init_from is not None and recorded is None
    origin = open_origin(run, processes.first, processes.share) if begins else None
    corpus = open_corpus_together(run, recorded, display, processes, workdir)
    began_with = fingerprints(recorded)
    if origin is not None:
        began_with["init_from"] = origin_fingerprint(str(origin.path))
    is_lowercase_asked = run.data.lowercase and "data.lowercase" not in run.unset
    run = settled(run, recorded, corpus)
    phases = list(run.phases.values())
    order = data_order(recorded)
    settings = [ExampleSettings.from_config(run, index, order) for index in range(len(phases))]
    trained_on = {name: one for (name, phase), one in zip(run.phases.items(), settings, strict=True) if phase.steps}
    pairs = phase_pairs(corpus.train, trained_on, run.seed)
    if recorded is None:
        check_pairs(corpus.train, pairs)
    asked = "config.data.whole_word_masking"
    little = [] if recorded else check_words(corpus.train, corpus.tokenizer, settings[0], asked)
    unigram = unigram_log_probs(corpus.token_counts)
    suites = InlineSuites(run.evaluation, corpus.tokenizer, run.model)

    # --- Model and steps ----------------------------------------------------------------------------------------
    if run.deterministic:
        check_sums()
    job = make_job(run, mesh)
    parts = {f"accumulation in {name}": accumulation_steps(run, phase, mesh) for name, phase in run.phases.items()}
    processes.must_equal("installation", versions())
    processes.must_equal("split of the batch, which follows the memory (or config.parallel.rows_per_device),", parts)
    agree = any_of(mesh, should_stop)
    for line in describe_job(job):
        display.say(line)
    for name, facts in pairs.items():
        display.say(f"{name}: {facts.in_words()}")
    warnings = [
        *suites.cautions,
        *text_cautions(corpus, is_lowercase_asked),
        *pair_lines(corpus.train, pairs),
        *little,
        *cautions(run, mesh),
    ]
    for line in warnings:
        display.say(f"warning: {line}")
    eval_step = job.eval_step()
    device_peak = peak_flops(mesh.devices.flat[0])

    # --- State: from the newest whole checkpoint, or new ------------------------------------------------------
    began_with |= {"tokenizer": corpus.tokenizer_fingerprint}
    identity = {"fingerprint": corpus.fingerprint, "path": str(corpus.path.resolve()), "order": order}
    checkpoints = Checkpoints(workdir, run.checkpoint, mesh, display.say, processes.share)
    newest = processes.share("newest checkpoint", checkpoints.newest())
    seen = {"newest step": checkpoints.newest_seen(newest)}
    processes.must_equal("folder of checkpoints, which all must share,", seen)
    constants = run_constants(run, corpus.tokenizer_fingerprint, corpus.fingerprint, versions(), order)
    restored = checkpoints.restore_newest(job.state_shapes())
    if restored is not None:
        display.say(f"resuming {workdir} from step {restored[0]}")
        if order < ORDER:
            display.say(
                f"        examples are made by version {order} of the rules, as when the run began, not by {ORDER}"
            )
        here = Standing.from_checkpoint(*restored, constants, run.phase_at)
    else:
        state = job.initial_state()
        if origin is not None:
            state = with_params(state, initial_params(origin, run, corpus.tokenizer, display.say))
        here = Standing(state)
    if processes.first:  # after what killed runs left has been cleared away, which may have filled the disk
        unfinished.clear(workdir)
        record = folder.config_record(run, identity, versions(), began_with)
        folder.write_beginning(workdir, record, corpus.tokenizer.save)
    peak = device_peak * mesh.size if device_peak else None
    due, tensorboard = is_due(restored), run.logging.tensorboard
    log = MetricsLog(workdir, here.step, tensorboard, display.say, not due) if processes.first else NoLog()
    for line in warnings if restored is None else []:  # of a run that goes on they are in its log
        log.write({"kind": "event", "event": "warning", "step": 0, "reason": line})
    guard = Guard(run.guard, workdir, processes.index, display.say, log.write)
    starts = [run.phase_start(index) for index in range(len(phases))]
    stretches = [Stretch(name, s + 1, s + p.steps) for s, (name, p) in zip(starts, run.phases.items(), strict=True)]
    every = run.logging.every_steps
    recorder = Recorder(stretches, TRAIN_FIELDS, every, log, display, here.step, here.totals, peak, guard.judge)
    result: dict[str, float] = {}
    evaluated_at = None
    placement = over(mesh, lambda: agree(here.step))
    stopped = lambda: Stopped(f"stopped at step {here.step}; all is saved in {workdir}, run the same command to go on")

    def held_out(index: int) -> dict[str, float]:
        rows = max(phases[index].batch_size // accumulation_steps(run, phases[index], mesh), batch_shards(mesh))
        batches = evaluation_batches(corpus.held_out, corpus.tokenizer, settings[index], rows, run.evaluation.max_rows)
        return evaluate(eval_step, here.state.params, batches, placement.put, unigram)

    def evaluate_here(index: int) -> bool:
        """Puts the evaluation of this step on record; False where it was asked to stop on the way."""
        nonlocal result, evaluated_at
        phase_ends, model = here.step == stretches[index].last, lambda: job.model(here.state.params)
        try:
            with progress.pause("evaluating"):
                found = held_out(index)
                scores = suites.scores(here.step, phase_ends, model, placement)
        except Interrupted:
            return False
        result, evaluated_at = found, here.step
        line = evaluation_line(here.step, stretches[index].name, result) + in_words(scores)
        recorder.evaluated(here.step, result | scores, line)
        return True

    def to_be_saved() -> dict[str, Any]:
        """The part of the record of a checkpoint that an evaluation changes."""
        here.totals = recorder.totals()
        return here.record() | {"held_out_loss": result["loss"] if evaluated_at == here.step else None}

    def report(ended: str | None = None) -> None:
        if processes.first:
            with progress.pause("writing the report"):
                refresh_report(workdir, display.say, ended)

    # --- Phases ---------------------------------------------------------------------------------------------------
    def run_phase(index: int, phase: PhaseConfig) -> None:
        nonlocal result, evaluated_at
        phase_end = run.phase_start(index) + phase.steps
        here.enter_phase(index)
        recorder.begin_phase(index)
        work = work_of_step(run.model, phase)
        train_step = progress.slow_at_first(job.train_step(phase))
        with open_batches(
            corpus.train,
            corpus.tokenizer,
            settings,
            seed=run.seed,
            phase_index=index,
            batch_size=phase.batch_size,
            cursor=here.cursor,
            rows=process_rows(phase.batch_size, mesh),
            prefetch=run.data.prefetch,
        ) as batches:
            while here.step < phase_end:
                progress.at("making a batch", here.step + 1)
                batch, here.cursor = next(batches)
                guard.remember(here.step + 1, batch)
                progress.at(IN_STEP, here.step + 1)
                here.state, metrics = train_step(here.state, to_global(batch, mesh))
                here.step += 1
                recorder.push(here.step, metrics, work)
                checkpoints.poll()

                every = run.evaluation.every_steps
                stopping, phase_ends = agree(here.step), here.step == phase_end
                evaluating = bool(phase_ends or (every and here.step % every == 0) or suites.due(here.step))
                saving = phase_ends or stopping or here.step % run.checkpoint.every_steps == 0
                if evaluating or saving:
                    recorder.flush()  # what is saved is good and counts its own step
                # Who is asked to stop has little time: the evaluation is done when the run goes on.
                put_off = evaluating and (stopping or not evaluate_here(index))
                stopping = stopping or put_off
                if saving or stopping:
                    record = constants | to_be_saved() | {DUE: put_off}
                    with progress.pause("saving"):
                        checkpoints.save(here.step, here.state, record)
                if evaluating and not stopping:
                    report()
                if stopping:
                    with progress.pause("saving"):
                        checkpoints.wait()
                    raise stopped()

    def make_up() -> None:
        """Does the evaluation that the run was asked to stop at."""
        index = run.phase_at(here.step - 1)
        recorder.begin_phase(index)
        if not evaluate_here(index):
            raise stopped()
        checkpoints.amend(here.step, to_be_saved() | {DUE: False})
        report()

    with orderly_end(recorder, checkpoints, progress, report):
        if due:
            make_up()
        while here.step < run.total_steps:
            index = run.phase_at(here.step)
            try:
                run_phase(index, phases[index])
            except Setback as setback:
                with progress.pause("going back"):
                    restored = checkpoints.restore_newest(job.state_shapes())
                    here.go_back(restored, constants, run.phase_at, str(setback))
                recorder.went_back(here.step, int(here.totals["real_tokens"]), str(setback))
                display.say(f"{setback}: back to step {here.step}, and on with the data after")
        with progress.pause("saving"):
            checkpoints.wait()

    # --- Result -----------------------------------------------------------------------------------------------------
    if evaluated_at != run.total_steps:  # a finished run, started again
        try:
            with progress.pause("evaluating"):
                result = held_out(len(phases) - 1)
        except Interrupted:
            raise stopped() from None
    summary = summarise(run, result, here.totals, corpus.manifest["held_out"]["kind"])
    with progress.pause("exporting"):
        params = gathered(here.state.params, mesh)
        if processes.first:
            export_params(workdir / "model", run.model, params, corpus.tokenizer)
            folder.write_json(workdir / "summary.json", summary)
    report()
    for line in summary_lines(summary, workdir):
        display.say(line)
    return summary
