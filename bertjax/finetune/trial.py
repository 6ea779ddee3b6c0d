"""The whole of a fine-tuning trial, top to bottom: state, epochs, the best checkpoint, the result."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from bertjax import unfinished
from bertjax.batch import Batch
from bertjax.cli.progress import Display
from bertjax.cluster.processes import Processes
from bertjax.config_schema import fingerprint
from bertjax.data.stream.pipeline import made_ahead
from bertjax.engine.checkpoint.checkpoints import Checkpoints
from bertjax.engine.checkpoint.record import is_count
from bertjax.engine.fit import Evaluation, Interrupted, Session, Training, fit, report_error, restore
from bertjax.engine.machine import run_figures, versions
from bertjax.engine.position import RANDOM, Records, RunPosition
from bertjax.finetune.settings import FinetuneConfig, Trial, of_trial, to_dict
from bertjax.finetune.start import Start
from bertjax.finetune.task_setup import Outcome, TaskSetup, of_run
from bertjax.finetune.trial_job import PREFETCH, TrialJob, describe_job, make_job
from bertjax.interop.task_models import save_task_model
from bertjax.model.bert import merge_params
from bertjax.model.task import POOLED, TaskModel
from bertjax.parallel.agreement import any_of
from bertjax.parallel.sharding import gathered, process_rows, to_global
from bertjax.reporting import refresh_report
from bertjax.tasks.label_warnings import majority
from bertjax.tasks.scores import defined_scores, format_scores, score_title
from bertjax.workdir.config_json import write_json

ROW_FIELDS = ("loss", "learning_rate", "grad_norm", "loss_scale")


def train(
    run: FinetuneConfig,
    trial: Trial,
    start: Start,
    setup: TaskSetup,
    identity: dict[str, Any],
    mesh: Mesh,
    workdir: Path,
    should_stop: Callable[[int], bool],
    display: Display,
    processes: Processes,
    programs: dict[Any, Any],
) -> dict[str, Any]:
    """Trains one trial in ``workdir`` to its end and returns its summary; resumes if there is a checkpoint.

    identity: all that must be the same on resume. programs: what trials before it have compiled. Every process goes
    through all of it; what is written, the first one writes. Raises Stopped, Diverged, CheckpointError, ConfigError.
    """
    # --- Steps ----------------------------------------------------------------------------------------------------
    job = make_job(run, trial, start, setup, mesh, programs)
    processes.must_equal(f"split of the batch of {trial.name}", {"parts": job.parts})
    for line in describe_job(job):
        display.say(line)
    for line in job.cautions:
        display.say(f"warning: {line}")
    stages, train_step, predict_step = job.stages(), job.train_step(), job.predict_step()

    # --- State: from the newest whole checkpoint, or new ------------------------------------------------------
    session = Session(workdir, mesh, display, processes, any_of(mesh, should_stop), refresh_report)
    checkpoints = Checkpoints(workdir, run.checkpoint, mesh, display.say, processes.share)
    in_checkpoints = records(identity, trial.seed, versions())
    here = restore(checkpoints, session, job.state_shapes(), in_checkpoints, f" of {trial.name}")
    if here is None:
        here = RunPosition(job.initial_state(), NextBatch())
    if processes.first:
        unfinished.clear(workdir)
        record = {"config": to_dict(of_trial(run, trial)), "identity": identity}
        record |= {"identity_fingerprint": in_checkpoints.constants["identity"], "versions": versions()}
        write_json(workdir / "config.json", record)

    # --- Epochs -----------------------------------------------------------------------------------------------------
    own = process_rows(job.train_batches.rows, mesh)
    # The first step of every row length compiles, which may take its time.
    by_length = lru_cache(None)(lambda length: processes.progress.slow_at_first(partial(train_step, length)))
    length_of = lambda batch: batch["input_ids"].shape[1]

    def batch(number: int) -> tuple[Batch, NextBatch]:
        examples, length = job.train_batches.training(trial.seed, number)
        return to_global(job.train_batches.make(examples[own], length), mesh), NextBatch(number + 1)

    def scored(params: Any) -> tuple[float, Outcome]:
        return evaluate(job, predict_step, params, lambda: session.agree(here.step))

    def evaluate_all(here: RunPosition, index: int) -> Evaluation:
        loss, outcome = scored(here.state.params)
        score = of_run(setup.metric, outcome.scores, outcome.undefined, loss)
        here.best = here.best.after(here.step, score)
        is_best = here.best.step == here.step
        line = evaluation_line(here.step, stages[index].name, loss, outcome, is_best, setup.task.positive_label)
        values = {"loss": loss, **defined_scores(outcome.scores, outcome.undefined)}
        return Evaluation(values, line, None if score is None else -score, (loss, outcome))

    def has_ended(here: RunPosition) -> bool:
        patience = run.training.early_stopping
        return bool(patience and here.best.evaluations_since >= patience)

    every = lambda steps: lambda step: bool(steps and step % steps == 0)
    is_evaluated, is_saved = every(run.training.evaluate_every), every(run.checkpoint.every_steps)
    training = Training(
        stages,
        batches=lambda index, position: made_ahead(batch, position.number, PREFETCH),
        step=lambda index, state, batch: by_length(length_of(batch))(state, batch, *job.constants),
        cost=lambda index, batch: job.cost(length_of(batch)),
        evaluate=evaluate_all,
        evaluate_at=is_evaluated,
        save_at=lambda step: is_evaluated(step) or is_saved(step),  # one of those that were evaluated is the result
        state_shapes=job.state_shapes,
        guard=job.guard,
        logging=run.logging,
        fields=(*ROW_FIELDS, *setup.fields),
        events=[*(("data", line) for line in setup.notes), *(("warning", line) for line in job.cautions)],
        has_ended=has_ended,
    )
    is_over = here.step >= job.steps or has_ended(here)
    with train_step.compiling({} if is_over else job.shapes_from(here.data.number)):
        latest = fit(here, training, checkpoints, in_checkpoints, session)
    if here.step < job.steps:
        since = here.best.evaluations_since
        display.say(f"no better score in {since} evaluations: ended at step {here.step} of {job.steps}")

    # --- Result: of the best checkpoint -------------------------------------------------------------------------------
    best = here.step if here.best.step is None else here.best.step
    try:
        state = here.state
        if best != here.step:
            with processes.progress.pause("restoring"):
                state, record = checkpoints.restore(best, job.state_shapes())
                in_checkpoints.check_run(best, record)
        if latest is not None and latest[0] == best:
            loss, outcome = latest[1].result
        else:
            loss, outcome = session.evaluate(here.step, lambda: scored(state.params))
        summary = summarise(job, here, loss, outcome)
        with processes.progress.pause("exporting"):
            params = gathered(state.params, mesh)
            if processes.first:
                task = dataclasses.replace(setup.task, **outcome.settings)  # without the mesh of the job's model
                graphdef = nnx.graphdef(nnx.eval_shape(lambda: TaskModel(job.model_config, task, nnx.Rngs(0))))
                save_task_model(merge_params(graphdef, params), workdir / "model", start.tokenizer)
                write_json(workdir / "summary.json", summary)
    except Exception as error:
        report_error(error, session.report)
        raise
    session.report()
    for line in summary_lines(summary, workdir):
        display.say(line)
    return summary


@dataclass(frozen=True)
class NextBatch:
    """``number``, from 0, of the next batch. It is the step, plus the batches that were left out after rollbacks."""

    number: int = 0

    def record(self, step: int) -> dict[str, Any]:
        return {"offset": self.number - step}

    def in_stage(self, index: int) -> NextBatch:
        return self

    def since(self, earlier: NextBatch) -> dict[str, Any]:
        return {"from": earlier.number, "to": self.number}


def records(identity: dict[str, Any], seed: int, versions: dict[str, str]) -> Records:
    """identity: all that must be the same on resume."""
    constants = {"identity": fingerprint(identity), "random": RANDOM | {"seed": seed}, "versions": versions}
    data = lambda step, record: NextBatch(step + record["offset"])
    return Records(constants, {"offset": is_count}, data, has_best=True)


def evaluate(
    job: TrialJob, predict_step: Callable[..., Any], params: Any, stop: Callable[[], bool]
) -> tuple[float, Outcome]:
    """(loss over all examples, outcome). Every process gets the same.

    stop: asked before every batch, in all processes, which must all answer alike. Raises Interrupted if it says so.
    """
    batches, rows = job.eval_batches, job.setup.eval
    own = process_rows(batches.rows, job.mesh)
    by_token = job.setup.task.kind not in (*POOLED, "embedding")
    outputs: list[Any] = [None] * len(rows)
    totals: list[dict[str, Any]] = [{}, {}]
    pending = None

    def finish(numbers: np.ndarray, results: Any) -> None:
        values, *parts = jax.device_get(results)
        for total, part in zip(totals, parts, strict=True):
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + float(value)
        for row, number in enumerate(numbers):
            if number >= 0:
                outputs[number] = values[row, : rows.lengths[number]].copy() if by_token else values[row]

    for numbers, length in batches.evaluation():
        if stop():
            raise Interrupted
        results = predict_step(params, to_global(batches.make(numbers[own], length), job.mesh))
        if pending is not None:  # a batch late, so that the device always has work
            finish(*pending)
        pending = (numbers, results)
    if pending is not None:
        finish(*pending)
    return float(job.eval_objective.total(*totals)), job.setup.outcome(outputs)


def evaluation_line(
    step: int, name: str, loss: float, outcome: Outcome, is_best: bool, positive: str | None = None
) -> str:
    """An evaluation in words. positive: the label that F1, precision and recall are of."""
    shown = "; ".join(
        [f"{format_scores(outcome.scores, outcome.undefined, positive)}, loss {loss:.4f}", *outcome.remarks]
    )
    return f"evaluation at step {step} ({name}): {shown}" + "  - the best so far" * is_best


def summarise(job: TrialJob, here: RunPosition, loss: float, outcome: Outcome) -> dict[str, Any]:
    """summary.json of a trial: ``outcome`` and ``loss`` are those of its best checkpoint."""
    trial, setup = job.trial, job.setup
    slots_between = lambda first, last: job.train_batches.slots(trial.seed, first, last)
    left_out = sum(slots_between(part["from"], part["to"]) for part in here.skipped)
    slots = slots_between(0, here.data.number) - left_out
    return {
        "name": job.run.name,
        "task": job.setup.task.kind,
        "main_score": setup.metric or next(iter(outcome.scores)),
        "scores": defined_scores(outcome.scores, outcome.undefined),
        "undefined": dict(outcome.undefined),
        "remarks": list(outcome.remarks),
        "positive_label": setup.task.positive_label,
        "loss": loss,
        "best_step": here.best.step,
        **outcome.details(),
        **dataclasses.asdict(trial),
        "rows": {"train": len(job.setup.train), "eval": len(job.setup.eval)},
        **run_figures(here.step, here.totals, slots),
    }


def summary_lines(summary: dict[str, Any], workdir: Path) -> list[str]:
    main, positive = summary["main_score"], summary.get("positive_label")
    beside, undefined = {}, summary.get("undefined", {})
    if summary["task"] == "classification":
        name, share = majority(Counter({name: figures["support"] for name, figures in summary["per_class"].items()}))
        beside["accuracy"] = f" ({share:.4f} is always {name!r})"
    shown = "; ".join([format_scores(summary["scores"], undefined, positive, beside), *summary["remarks"]])
    chosen = score_title(main.replace("_", " "), positive)
    by = f" by {chosen}" * (main != next(iter(summary["scores"]), main))
    return [
        f"best{by} at step {summary['best_step']}: {shown}"
        if summary["best_step"] is not None
        else f"warning: {chosen} has a value in no evaluation, so that none is the best: the model is that of the last "
        f"step, {summary['steps']:,}: {shown}",
        f"{summary['steps']:,} steps, {summary['real_tokens']:,} real tokens in {summary['seconds']:,.0f} s "
        f"({summary['tokens_per_second']:,.0f} a second), padding {summary['padding_fraction']:.1%}",
        f"the model is in {workdir / 'model'}, the figures are in {workdir / 'summary.json'}",
    ]
