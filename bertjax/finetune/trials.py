"""Trials: what they share is opened once, each is trained, the best becomes the model, mean and spread are kept."""

import json
import math
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from bertjax import unfinished
from bertjax.cli.progress import Display
from bertjax.cluster.processes import Processes
from bertjax.config_schema import translated_record
from bertjax.engine.fit import Session
from bertjax.engine.optimizers import check_optimizer
from bertjax.engine.recorder import versions
from bertjax.errors import ConfigError
from bertjax.finetune.answering import answering_setup
from bertjax.finetune.classification import text_setup
from bertjax.finetune.embedding import embedding_setup
from bertjax.finetune.model_and_examples import examples_fingerprint, open_start, read_examples
from bertjax.finetune.settings import FinetuneConfig, Trial, identity_items, of_trial, trials
from bertjax.finetune.tagging import tagging_setup
from bertjax.finetune.task_setup import LOSS, Labelled, TaskSetup, of_summary, with_metric
from bertjax.finetune.trial import train_trial
from bertjax.finetune.trial_job import make_job
from bertjax.interop.exported import check_replaceable
from bertjax.interop.huggingface import put_in_place
from bertjax.parallel.agreement import any_of
from bertjax.parallel.deterministic import check_sums
from bertjax.parallel.mesh import make_mesh
from bertjax.reporting import refresh_report
from bertjax.tasks.label_warnings import data_warnings, label_counts, label_warnings, unknown_text_warnings
from bertjax.tasks.scores import score_title
from bertjax.workdir.belongings import RUNS, check_workdir
from bertjax.workdir.config_json import check_same_items, has_checkpoint, recorded_config, write_json

TASK_SETUPS: dict[str, Callable[[FinetuneConfig, Labelled], TaskSetup]] = {
    "classification": text_setup,
    "multi_label": text_setup,
    "regression": text_setup,
    "tagging": tagging_setup,
    "answering": answering_setup,
    "embedding": embedding_setup,
}


def run_trials(
    run: FinetuneConfig,
    sources: Mapping[str, Any],
    workdir: Path,
    should_stop: Callable[[int], bool],
    display: Display,
    processes: Processes,
) -> dict[str, Any]:
    """See ``bertjax.finetune.run``. sources: model, train, eval."""
    check_optimizer(run.optimizer.name)
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor)
    session = Session(workdir, mesh, display, processes, any_of(mesh, should_stop), refresh_report)
    if run.deterministic:
        check_sums()
    start = open_start(sources["model"], run)
    warnings: list[str] = []
    read = lambda part: read_examples(sources[part], run, held_out=part == "eval", warn=warnings.append)
    data = Labelled(read("train"), read("eval"), start.tokenizer, start.model.max_position_embeddings)
    begins_with = {
        "model": start.fingerprint,
        # The fingerprint of earlier versions, so that their runs resume.
        "tokenizer": start.tokenizer.former_fingerprint or start.tokenizer.fingerprint,
        "train": examples_fingerprint(data.train),
        "eval": examples_fingerprint(data.eval),
    }
    processes.must_equal("model or data", begins_with)
    processes.must_equal("installation", versions())
    setup = with_metric(TASK_SETUPS[run.task](run, data), run)
    labels = setup.task.labels
    counts = [label_counts(labels, data.train, data.eval)] if labels and run.task != "regression" else []
    begins = not has_checkpoint(workdir) and not (workdir / RUNS).is_dir()  # a resumed run keeps what it began with
    cautions = [
        *dict.fromkeys(warnings),
        *label_warnings(run.task, labels, data.train, data.eval, run.data.separator),
        *data_warnings(data.train, data.eval),
        *unknown_text_warnings(start.tokenizer, data.train, "the training data", begins),
        *unknown_text_warnings(start.tokenizer, data.eval, "the evaluation data", begins),
        *setup.cautions,
    ]
    setup = replace(setup, notes=[*counts, *setup.notes], cautions=cautions)
    for rows in (setup.train, setup.eval):
        if rows.token_type_ids.max(initial=0) >= start.model.type_vocab_size:
            raise ConfigError(f"the model in {start.path} has type_vocab_size 1; text pairs need 2")
    display.say(f"{run.task}: {len(data.train):,} examples to train on, {len(data.eval):,} to evaluate on")
    for note in setup.notes:
        display.say(note)
    programs: dict[Any, Any] = {}
    decided = {name: one.value for name, one in setup.decided.items()}
    identity_of = lambda trial: identity_items(of_trial(run, trial), begins_with | decided)

    def train_one(trial: Trial, own: Path) -> dict[str, Any]:
        identity = identity_of(trial)
        if processes.first:
            check_workdir(own)
            own.mkdir(parents=True, exist_ok=True)
            recorded = recorded_config(own, needed=("identity",))
            identity = identity_when_begun(recorded, identity)
            if recorded is not None:
                longer = recorded["identity"].get("training.epochs") != identity["training.epochs"]
                advice = f" --model={own / 'model'}: a run keeps its epochs, another can begin with its model" * longer
                ways = [one.as_before for name, one in setup.decided.items() if name not in recorded["identity"]]
                advice += "".join(f", or go on as it began with {way}" for way in ways if way)
                check_same_items(recorded["identity"], identity, own, advice)
        identity = processes.share(f"identity of {trial.name}", identity)
        job = make_job(run, trial, start, setup, mesh, programs)
        return train_trial(job, start.tokenizer, identity, replace(session, workdir=own))

    todo = trials(run)
    if len(todo) == 1 and not (workdir / RUNS).is_dir():
        return train_one(todo[0], workdir)
    if has_checkpoint(workdir):
        raise ConfigError(f"workdir {workdir} holds a run of one trial, not of several; use --workdir=ANOTHER_DIR")
    for trial in todo if processes.first else ():
        check_workdir(workdir / RUNS / trial.name)  # all of them before the first is trained
    summaries = []
    for number, trial in enumerate(todo):
        own = workdir / RUNS / trial.name
        display.say(f"trial {number + 1} of {len(todo)}: {trial.name}")
        summary = finished_summary(own, identity_of(trial))
        if summary is None:
            summary = train_one(trial, own)
        else:
            display.say("  already finished")
        summaries.append(summary)
    best, summary = combined(todo, summaries)
    if processes.first:
        keep_best(workdir, todo[best], summary)
    session.report()
    display.table(table_of(summary))
    return summary


def finished_summary(workdir: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The summary of a trial that finished with the same identity and left its model; else None."""
    try:
        recorded = translated_record(json.loads((workdir / "config.json").read_text()))
        same = recorded["identity"] == json.loads(json.dumps(identity_when_begun(recorded, identity)))
        summary = json.loads((workdir / "summary.json").read_text())
        has_scores = of_summary(summary) is not None or summary["main_score"] in summary.get("undefined", ())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    whole = same and (workdir / "model" / "config.json").is_file()
    return summary if whole and has_scores else None


def combined(trials: Sequence[Trial], summaries: Sequence[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    """(number of the best trial, its summary with ``runs``, ``mean`` and ``spread`` of all).

    The best has the best value of the metric, the first of equals; trials without a value come last. mean, spread
    (standard deviation of a sample, 0 of one): over the runs that have a value.
    """
    values = [of_summary(summary) for summary in summaries]
    best = max(range(len(summaries)), key=lambda n: (-math.inf if values[n] is None else values[n], -n))
    by_loss = summaries[0]["main_score"] == LOSS
    scores = [summary["scores"] | ({LOSS: summary[LOSS]} if by_loss else {}) for summary in summaries]
    names = dict.fromkeys(name for one in scores for name in one)
    columns = {name: [one[name] for one in scores if name in one] for name in names}
    runs = [asdict(trial) | {"scores": one} for trial, one in zip(trials, scores, strict=True)]
    return best, summaries[best] | {
        "runs": runs,
        "mean": {name: statistics.fmean(values) for name, values in columns.items()},
        "spread": {name: statistics.stdev(values) if len(values) > 1 else 0.0 for name, values in columns.items()},
    }


def keep_best(workdir: Path, best: Trial, summary: dict[str, Any]) -> None:
    """Puts the model of the best trial and the summary of all into the workdir."""
    model = check_replaceable(workdir / "model", copies=list((workdir / RUNS).glob("*/model")))
    aside = unfinished.new_name(model)
    try:
        shutil.copytree(workdir / RUNS / best.name / "model", aside / "new")
        written = [child.name for child in (aside / "new").iterdir()]
        put_in_place(aside / "new", model, aside / unfinished.REPLACED, written)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    write_json(workdir / "summary.json", summary)


def table_of(summary: dict[str, Any]) -> Table:
    names, positive = list(summary["mean"]), summary.get("positive_label")
    table = Table("learning rate", "epochs", "seed", *[score_title(name.replace("_", " "), positive) for name in names])
    for run in summary["runs"]:
        cells = [f"{run['learning_rate']:g}", str(run["epochs"]), str(run["seed"])]
        shown = [f"{run['scores'][name]:.4f}" if name in run["scores"] else "undefined" for name in names]
        table.add_row(*cells, *shown)
    table.add_section()
    for what in ("mean", "spread"):
        table.add_row(what, "", "", *[f"{summary[what][name]:.4f}" for name in names])
    return table


# Identity keys of earlier versions that make no difference where the data and the model are the same, as they must be:
# a run that began with "refuse" has no text that would be truncated.
_NO_LONGER = ("data.too_long",)


def identity_when_begun(recorded: Mapping[str, Any] | None, identity: dict[str, Any]) -> dict[str, Any]:
    """``identity`` (dotted name -> JSON value) as the version that began the run in ``recorded`` would have it.

    recorded: config.json of a trial, None if there is none. A key that was not there then is left out where it is
    None, which stands for what was done before there was such a key.
    """
    if recorded is None:
        return identity
    old = recorded["identity"]
    new = {name: value for name, value in identity.items() if name in old or value is not None}
    return new | {name: old[name] for name in _NO_LONGER if name in old}
