"""The whole of a fine-tuning trial, top to bottom: state, epochs, the best checkpoint, the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flax import nnx
from jax.sharding import Mesh

from bertjax import unfinished
from bertjax.cli.display import Display
from bertjax.cluster.processes import Processes
from bertjax.cluster.watchdog import IN_STEP
from bertjax.config_schema import fingerprint
from bertjax.engine.checkpoint.checkpoints import Checkpoints
from bertjax.engine.ending import orderly_end
from bertjax.engine.fit import Interrupted
from bertjax.engine.guard import Guard, Setback
from bertjax.engine.machine import versions
from bertjax.engine.metrics_log import MetricsLog, NoLog
from bertjax.engine.recorder import Recorder
from bertjax.errors import Stopped
from bertjax.finetune.eval_scores import evaluate, evaluation_line
from bertjax.finetune.family import Family, Outcome
from bertjax.finetune.job import Job, describe_job, make_job
from bertjax.finetune.metric import of_run
from bertjax.finetune.position import OF_THE_RUN, Position
from bertjax.finetune.settings import FinetuneConfig, Trial, of_trial, to_dict
from bertjax.finetune.start import Start
from bertjax.finetune.summary import summarise, summary_lines
from bertjax.interop.task_models import save_task_model
from bertjax.model.bert import merge_params
from bertjax.model.task import TaskModel
from bertjax.parallel.agreement import any_of
from bertjax.parallel.devices import peak_flops
from bertjax.parallel.sharding import gathered, process_rows, to_global
from bertjax.reporting import refresh_report
from bertjax.tasks.score_format import defined_scores
from bertjax.train.position import DUE, RANDOM, is_due, refuse_another_run
from bertjax.workdir import files as folder

ROW_FIELDS = ("loss", "learning_rate", "grad_norm", "loss_scale")


def train(
    run: FinetuneConfig,
    trial: Trial,
    start: Start,
    family: Family,
    identity: dict[str, Any],
    mesh: Mesh,
    workdir: Path,
    should_stop: Callable[[int], bool],
    display: Display,
    processes: Processes,
    programs: dict[Any, Any],
) -> dict[str, Any]:
    """Trains one trial in ``workdir`` to its end and returns its summary; resumes where there is a checkpoint.

    identity: all that must be the same on resume. programs: what trials before it have compiled. Every process goes
    through all of it; what is written, the first one writes. Raises Stopped, Diverged, CheckpointError, ConfigError.
    """
    progress = processes.progress

    # --- Steps ----------------------------------------------------------------------------------------------------
    job = make_job(run, trial, start, family, mesh, programs)
    processes.must_equal(f"split of the batch of {trial.name}", {"parts": job.parts})
    agree = any_of(mesh, should_stop)
    for line in describe_job(job):
        display.say(line)
    for line in job.cautions:
        display.say(f"warning: {line}")
    steps, stretches = job.steps, job.stretches()
    train_step, predict_step = job.train_step(), job.predict_step()
    by_length: dict[int, Any] = {}  # a new length compiles, which may take its time
    own = process_rows(job.train_batches.rows, mesh)
    device_peak = peak_flops(mesh.devices.flat[0])

    # --- State: from the newest whole checkpoint, or new ------------------------------------------------------
    checkpoints = Checkpoints(workdir, run.checkpoint, mesh, display.say, processes.share)
    newest = processes.share(f"newest checkpoint of {trial.name}", checkpoints.newest())
    seen = {"newest step": checkpoints.newest_seen(newest)}
    processes.must_equal(f"folder of checkpoints of {trial.name}, which all must share,", seen)
    constants = {
        "identity": fingerprint(identity),
        "random": RANDOM | {"seed": trial.seed},
        "versions": versions(),
    }
    restored = checkpoints.restore_newest(job.state_shapes())
    if restored is not None:
        display.say(f"resuming {workdir} from step {restored[0]}")
        here = Position.from_checkpoint(*restored, constants)
    else:
        here = Position(job.initial_state())
    if processes.first:
        unfinished.clear(workdir)
        record = {"config": to_dict(of_trial(run, trial)), "identity": identity}
        record |= {"identity_fingerprint": constants["identity"], "versions": versions()}
        folder.write_json(workdir / "config.json", record)
    due, tensorboard = is_due(restored), run.logging.tensorboard
    log = MetricsLog(workdir, here.step, tensorboard, display.say, not due) if processes.first else NoLog()
    if restored is None:  # of a run that goes on they are in its log
        for event, lines in (("data", family.notes), ("warning", job.cautions)):
            for line in lines:
                log.write({"kind": "event", "event": event, "step": 0, "reason": line})
    guard = Guard(job.guard, workdir, processes.index, display.say, log.write)
    fields = (*ROW_FIELDS, *family.fields)
    peak = device_peak * mesh.size if device_peak else None
    every = run.logging.every_steps
    recorder = Recorder(stretches, fields, every, log, display, here.step, here.totals, peak, guard.judge)

    def has_ended() -> bool:
        patience = run.training.early_stopping
        return here.step >= steps or bool(patience and here.since_best >= patience)

    latest: dict[int, tuple[float, Outcome]] = {}  # the latest evaluation, by its step

    stopped = lambda: Stopped(f"stopped at step {here.step}; all is saved in {workdir}, run the same command to go on")

    def evaluated(params: Any) -> tuple[float, Outcome]:
        with progress.pause("evaluating"):
            return evaluate(job, predict_step, params, lambda: agree(here.step))

    def evaluate_here(name: str) -> bool:
        """Whether this step has been evaluated, which is on record then; not where it was asked to stop on the way."""
        try:
            loss, outcome = evaluated(here.state.params)
        except Interrupted:
            return False
        latest.clear()
        latest[here.step] = loss, outcome
        is_best = here.evaluated(of_run(family.metric, outcome.scores, outcome.undefined, loss))
        line = evaluation_line(here.step, name, loss, outcome, is_best, family.task.positive_label)
        recorder.evaluated(here.step, {"loss": loss, **defined_scores(outcome.scores, outcome.undefined)}, line)
        return True

    def to_be_saved(is_evaluated: bool) -> dict[str, Any]:
        """The part of the record of a checkpoint that an evaluation changes."""
        here.totals, score = recorder.totals(), None
        if is_evaluated:
            loss, outcome = latest[here.step]
            score = of_run(family.metric, outcome.scores, outcome.undefined, loss)
        return here.record() | {"held_out_loss": None if score is None else -score}

    def report(ended: str | None = None) -> None:
        if processes.first:
            with progress.pause("writing the report"):
                refresh_report(workdir, display.say, ended)

    # --- Epochs -----------------------------------------------------------------------------------------------------
    def run_epoch(index: int) -> None:
        recorder.begin_phase(index)
        while here.step < stretches[index].last and not has_ended():
            progress.at("making a batch", here.step + 1)
            numbers, length = job.train_batches.training(trial.seed, here.step + here.offset)
            batch = job.train_batches.make(numbers[own], length)
            guard.remember(here.step + 1, batch)
            progress.at(IN_STEP, here.step + 1)
            step = by_length.setdefault(length, progress.slow_at_first(train_step))
            here.state, metrics = step(length, here.state, to_global(batch, mesh), *job.constants)
            here.step += 1
            recorder.push(here.step, metrics, job.work(length))
            checkpoints.poll()

            asked = run.training.evaluate_every
            stopping = agree(here.step)
            evaluating = here.step == stretches[index].last or bool(asked and here.step % asked == 0)
            saving = evaluating or stopping or here.step % run.checkpoint.every_steps == 0
            if saving:
                recorder.flush()  # what is saved is good and counts its own step
            # Who is asked to stop has little time: the evaluation is done when the run goes on.
            is_evaluated = evaluating and not stopping and evaluate_here(stretches[index].name)
            put_off = evaluating and not is_evaluated
            if saving:
                record = constants | to_be_saved(is_evaluated) | {DUE: put_off}
                with progress.pause("saving"):
                    checkpoints.save(here.step, here.state, record)
            if evaluating and not put_off:
                report()
            if stopping or put_off:
                with progress.pause("saving"):
                    checkpoints.wait()
                raise stopped()

    def make_up() -> None:
        """Does the evaluation that the run was asked to stop at."""
        index = next(i for i, stretch in enumerate(stretches) if here.step <= stretch.last)
        recorder.begin_phase(index)
        if not evaluate_here(stretches[index].name):
            raise stopped()
        checkpoints.amend(here.step, to_be_saved(True) | {DUE: False})
        report()

    to_come = {} if has_ended() else job.shapes_from(here.step + here.offset)
    with orderly_end(recorder, checkpoints, progress, report), train_step.compiling(to_come):
        if due:
            make_up()
        while not has_ended():
            index = next(i for i, stretch in enumerate(stretches) if here.step < stretch.last)
            try:
                run_epoch(index)
            except Setback as setback:
                with progress.pause("going back"):
                    here.go_back(checkpoints.restore_newest(job.state_shapes()), constants, str(setback))
                recorder.went_back(here.step, int(here.totals["real_tokens"]), str(setback))
                display.say(f"{setback}: back to step {here.step}, and on with the batches after")
        ended_at = here.step
        if ended_at < steps:
            display.say(f"no better score in {here.since_best} evaluations: ended at step {ended_at} of {steps}")

        # --- Result: of the best checkpoint ---------------------------------------------------------------------------
        best = here.best["step"] if here.best else ended_at  # where no evaluation had a value, the last one
        state = here.state
        if best != ended_at:
            with progress.pause("restoring"):
                state, record = checkpoints.restore(best, job.state_shapes())
                refuse_another_run(best, record, constants, OF_THE_RUN)
        try:
            loss, outcome = latest.get(best) or evaluated(state.params)
        except Interrupted:
            raise stopped() from None
        summary = summarise(job, here, loss, outcome)
        with progress.pause("exporting"):
            params = gathered(state.params, mesh)
            if processes.first:
                save_task_model(_plain(job, outcome.settings, params), workdir / "model", start.tokenizer)
                folder.write_json(workdir / "summary.json", summary)
    report()
    for line in summary_lines(summary, workdir):
        display.say(line)
    return summary


def _plain(job: Job, settings: Mapping[str, Any], params: Any) -> TaskModel:
    """The model without its mesh; settings: of the task, as the evaluation has them."""
    task = dataclasses.replace(job.family.task, **settings)
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: TaskModel(job.model, task, nnx.Rngs(0))))
    return merge_params(graphdef, params)
