"""The whole of a fine-tuning trial, top to bottom: state, epochs, the best checkpoint, the result."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from flax import nnx

from bertjax import unfinished
from bertjax.batch import Batch
from bertjax.config_schema import fingerprint
from bertjax.data.stream.pipeline import made_ahead
from bertjax.engine.checkpoint.checkpoints import Checkpoints
from bertjax.engine.checkpoint.record import is_count, refuse_nonsense
from bertjax.engine.fit import Evaluation, Session, Training, fit, report_error, restore
from bertjax.engine.position import RANDOM, Records, RunPosition
from bertjax.engine.recorder import Stage, run_figures, versions
from bertjax.evaluation.during_training import over
from bertjax.finetune.settings import of_trial, to_dict
from bertjax.finetune.task_setup import Outcome, of_run
from bertjax.finetune.trial_job import PREFETCH, TrialJob, describe_job
from bertjax.inference.batches import Placement
from bertjax.interop.task_models import save_task_model
from bertjax.model.bert import merge_params
from bertjax.model.task import POOLED, TaskModel
from bertjax.parallel.sharding import gathered, on_every_device, process_rows, to_global
from bertjax.tasks.label_warnings import majority
from bertjax.tasks.scores import defined_scores, format_scores, score_title
from bertjax.text.tokenizer import Tokenizer
from bertjax.workdir.config_json import write_json


def train_trial(job: TrialJob, tokenizer: Tokenizer, identity: dict[str, Any], session: Session) -> dict[str, Any]:
    """Trains one trial to its end and returns its summary; resumes if the session's workdir has a checkpoint.

    identity: all that must be the same on resume. Every process runs all of this; only the first writes. Raises
    Stopped, Diverged, CheckpointError, ConfigError.
    """
    # --- Steps ----------------------------------------------------------------------------------------------------
    run, trial, setup, mesh = job.run, job.trial, job.setup, job.mesh
    workdir, display, processes = session.workdir, session.display, session.processes
    processes.must_equal(f"split of the batch of {trial.name}", {"parts": job.parts})
    for line in describe_job(job):
        display.say(line)
    for line in job.cautions:
        display.say(f"warning: {line}")
    train_step, predict_step, size = job.train_step(), job.predict_step(), job.train_batches.per_epoch
    stages = [Stage(f"epoch {n + 1}", n * size + 1, (n + 1) * size) for n in range(trial.epochs)]

    # --- State: from the newest whole checkpoint, or new ------------------------------------------------------
    checkpoints = Checkpoints(workdir, run.checkpoint, mesh, display.say, processes.share)
    in_checkpoints = records(identity, trial.seed, versions())
    here = restore(checkpoints, session, job.state_shapes(), in_checkpoints, f" of {trial.name}")
    here = here or RunPosition(job.initial_state(), NextBatch())
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
    constants = on_every_device(job.constants, mesh)

    def batch(number: int) -> tuple[Batch, NextBatch]:
        examples, length = job.train_batches.training(trial.seed, number)
        return to_global(job.train_batches.make(examples[own], length), mesh), NextBatch(number + 1)

    placement = over(mesh, lambda: session.agree(here.step))
    scored = lambda params: evaluate(job, partial(predict_step, params), placement)

    def evaluate_all(here: RunPosition, index: int) -> Evaluation:
        loss, outcome = scored(here.state.params)
        score = of_run(setup.metric, outcome.scores, outcome.undefined, loss)
        here.best = here.best.after(here.step, score)
        is_best = here.best.step == here.step
        shown = format_scores(outcome.scores, outcome.undefined, setup.task.positive_label)
        shown = "; ".join([f"{shown}, loss {loss:.4f}", *outcome.remarks]) + "  - the best so far" * is_best
        line = f"evaluation at step {here.step} ({stages[index].name}): {shown}"
        values = {"loss": loss, **defined_scores(outcome.scores, outcome.undefined)}
        return Evaluation(values, line, None if score is None else -score, (loss, outcome))

    patience = run.training.early_stopping
    has_ended = lambda here: bool(patience and here.best.evaluations_since >= patience)
    every = lambda steps: lambda step: bool(steps and step % steps == 0)
    is_evaluated, is_saved = every(run.training.evaluate_every), every(run.checkpoint.every_steps)
    training = Training(
        stages,
        batches=lambda index, position: made_ahead(batch, position.number, PREFETCH),
        step=lambda index: lambda state, batch: by_length(length_of(batch))(state, batch, *constants),
        cost=lambda index, batch: job.cost(length_of(batch)),
        evaluate=evaluate_all,
        evaluate_at=is_evaluated,
        save_at=lambda step: is_evaluated(step) or is_saved(step),  # one of those that were evaluated is the result
        state_shapes=job.state_shapes,
        guard=job.guard,
        logging=run.logging,
        fields=("loss", "learning_rate", "grad_norm", "loss_scale", *setup.fields),
        events=[*(("data", line) for line in setup.notes), *(("warning", line) for line in job.cautions)],
        has_ended=has_ended,
        ahead=job.ahead,
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
                save_task_model(merge_params(graphdef, params), workdir / "model", tokenizer)
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
    """``number``, from 0, of the next batch: the step, plus the batches left out after rollbacks."""

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

    def data(step: int, record: dict[str, Any]) -> NextBatch:
        refuse_nonsense(step, record, {"offset": is_count})
        return NextBatch(step + record["offset"])

    return Records(constants, data, has_best=True)


def evaluate(job: TrialJob, predict: Callable[[Any], Any], placement: Placement) -> tuple[float, Outcome]:
    """(loss over all examples, outcome), the same in every process. Raises whatever ``placement.put`` does."""
    rows, by_token = job.setup.eval, job.setup.task.kind not in (*POOLED, "embedding")
    outputs: list[Any] = [None] * len(rows)
    totals: Any = Counter(), Counter()  # sums, weights
    batches = ((numbers, job.eval_batches.make(numbers, length)) for numbers, length in job.eval_batches.evaluation())
    for numbers, (values, *parts) in placement.results(predict, batches):
        for total, part in zip(totals, parts, strict=True):
            total.update({name: float(value) for name, value in part.items()})
        for row, number in enumerate(numbers):
            if number >= 0:
                outputs[number] = values[row, : rows.lengths[number]].copy() if by_token else values[row]
    return float(job.eval_objective.total(*totals)), job.setup.outcome(outputs)


def summarise(job: TrialJob, here: RunPosition, loss: float, outcome: Outcome) -> dict[str, Any]:
    """summary.json of a trial: ``outcome`` and ``loss`` are those of its best checkpoint."""
    trial, setup, slots_between = job.trial, job.setup, partial(job.train_batches.slots, job.trial.seed)
    left_out = sum(slots_between(part["from"], part["to"]) for part in here.skipped)
    slots = slots_between(0, here.data.number) - left_out
    return {
        "name": job.run.name,
        "task": setup.task.kind,
        "main_score": setup.metric or next(iter(outcome.scores)),
        "scores": defined_scores(outcome.scores, outcome.undefined),
        "undefined": dict(outcome.undefined),
        "remarks": list(outcome.remarks),
        "positive_label": setup.task.positive_label,
        "loss": loss,
        "best_step": here.best.step,
        **outcome.details(),
        **dataclasses.asdict(trial),
        "rows": {"train": len(setup.train), "eval": len(setup.eval)},
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
        else f"warning: {chosen} was undefined in every evaluation; the model is that of the last step, "
        f"{summary['steps']:,}: {shown}",
        f"{summary['steps']:,} steps, {summary['real_tokens']:,} real tokens in {summary['seconds']:,.0f} s "
        f"({summary['tokens_per_second']:,.0f} a second), padding {summary['padding_fraction']:.1%}",
        f"the model is in {workdir / 'model'}, the figures are in {workdir / 'summary.json'}",
    ]
