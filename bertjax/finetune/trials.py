"""From files to trained models: what all trials of a run share is opened once, then each is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertjax.cli.display import Display
from bertjax.cluster.processes import Processes
from bertjax.engine.machine import versions
from bertjax.engine.optimizers import check_optimizer
from bertjax.errors import ConfigError
from bertjax.finetune.answering import answering_family
from bertjax.finetune.classification import text_family
from bertjax.finetune.embedding import embedding_family
from bertjax.finetune.family import Family, Labelled
from bertjax.finetune.metric import with_metric
from bertjax.finetune.recorded import identity_when_begun
from bertjax.finetune.search import run_all, table_of
from bertjax.finetune.settings import FinetuneConfig, Trial, identity_items, of_trial, trials
from bertjax.finetune.start import examples_fingerprint, open_start, read_examples
from bertjax.finetune.tagging import tagging_family
from bertjax.finetune.trial import train
from bertjax.parallel.deterministic import check_sums
from bertjax.parallel.mesh import make_mesh
from bertjax.reporting import refresh_report
from bertjax.tasks.label_warnings import data_warnings, label_counts, label_warnings
from bertjax.tasks.unknown_text import unknown_text_warnings
from bertjax.workdir.belongings import RUNS, check_workdir
from bertjax.workdir.files import has_checkpoint, recorded_config
from bertjax.workdir.same_run import check_same_items

FAMILIES: dict[str, Callable[[FinetuneConfig, Labelled], Family]] = {
    "classification": text_family,
    "multi_label": text_family,
    "regression": text_family,
    "tagging": tagging_family,
    "answering": answering_family,
    "embedding": embedding_family,
}


def train_all(
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
    if run.deterministic:
        check_sums()
    start = open_start(sources["model"], run)
    warnings: list[str] = []
    data = Labelled(
        read_examples(sources["train"], run, held_out=False, warn=warnings.append),
        read_examples(sources["eval"], run, held_out=True, warn=warnings.append),
        start.tokenizer,
        start.model.max_position_embeddings,
    )
    begins_with = {
        "model": start.fingerprint,
        # By what decides the ids, as versions before had it: their runs go on.
        "tokenizer": start.tokenizer.former_fingerprint or start.tokenizer.fingerprint,
        "train": examples_fingerprint(data.train),
        "eval": examples_fingerprint(data.eval),
    }
    processes.must_equal("model or data", begins_with)
    processes.must_equal("installation", versions())
    family = with_metric(FAMILIES[run.task](run, data), run)
    if run.task not in ("regression", "answering", "embedding"):
        family = replace(family, notes=[label_counts(family.task.labels, data.train, data.eval), *family.notes])
    begins = not has_checkpoint(workdir) and not (workdir / RUNS).is_dir()  # others go on as they began
    doubts = [
        *label_warnings(run.task, family.task.labels, data.train, data.eval, run.data.separator),
        *data_warnings(data.train, data.eval),
        *unknown_text_warnings(start.tokenizer, data.train, "the training data", begins),
        *unknown_text_warnings(start.tokenizer, data.eval, "the evaluation data", begins),
    ]
    family = replace(family, cautions=[*dict.fromkeys(warnings), *doubts, *family.cautions])
    for rows in (family.train, family.eval):
        if rows.token_type_ids.max(initial=0) >= start.model.type_vocab_size:
            raise ConfigError(f"the model in {start.path} knows 1 kind of text; two that are read together need 2")
    display.say(f"{run.task}: {len(data.train):,} examples to train on, {len(data.eval):,} to evaluate on")
    for note in family.notes:
        display.say(note)
    programs: dict[Any, Any] = {}
    decided = {name: one.value for name, one in family.decided.items()}
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
                ways = [one.as_before for name, one in family.decided.items() if name not in recorded["identity"]]
                advice += "".join(f", or go on as it began with {way}" for way in ways if way)
                check_same_items(recorded["identity"], identity, own, advice)
        identity = processes.share(f"identity of {trial.name}", identity)
        return train(run, trial, start, family, identity, mesh, own, should_stop, display, processes, programs)

    todo = trials(run)
    if len(todo) == 1 and not (workdir / RUNS).is_dir():
        return train_one(todo[0], workdir)
    if has_checkpoint(workdir):
        raise ConfigError(f"workdir {workdir} holds a run of one trial, not of several; use --workdir=ANOTHER_DIR")
    for trial in todo if processes.first else ():
        check_workdir(workdir / RUNS / trial.name)  # all of them before the first is trained
    summary = run_all(todo, workdir, identity_of, train_one, display.say, processes.first)
    if processes.first:
        with processes.progress.pause("writing the report"):
            refresh_report(workdir, display.say)
    display.table(table_of(summary))
    return summary
