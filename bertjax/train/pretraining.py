"""The whole of a pretraining run, top to bottom: corpus, model, state, phases, result, summary."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bertjax import unfinished
from bertjax.cli.progress import Display
from bertjax.cluster.processes import Processes
from bertjax.config import RunConfig, with_values
from bertjax.data.corpus.prepared import PreparedCorpus
from bertjax.data.corpus.text_warnings import text_warnings
from bertjax.data.stream.masking import check_words
from bertjax.data.stream.pipeline import Batches, evaluation_batches, open_batches
from bertjax.data.stream.settings import ORDER, ExampleSettings
from bertjax.engine.checkpoint.checkpoints import Checkpoints
from bertjax.engine.compiled_ahead import steps_of_stages
from bertjax.engine.dispatch import steps_ahead
from bertjax.engine.fit import Evaluation, Session, Training, fit, restore
from bertjax.engine.optimizers import check_optimizer
from bertjax.engine.position import RunPosition
from bertjax.engine.recorder import Stage, run_figures, versions
from bertjax.engine.state import with_params
from bertjax.evaluation.during_training import InlineSuites, in_words, over
from bertjax.inference.batches import Placement
from bertjax.interop.models import export_params, why_not_exportable
from bertjax.objectives.objective import CrossEntropy, unigram_log_probs
from bertjax.objectives.pair_cautions import check_pairs, facts_line, pair_lines, phase_pairs
from bertjax.objectives.registry import phase_settings, run_objective
from bertjax.parallel.agreement import any_of
from bertjax.parallel.deterministic import check_sums
from bertjax.parallel.mesh import batch_shards, make_mesh
from bertjax.parallel.sharding import gathered, process_rows, to_global
from bertjax.reporting import refresh_report
from bertjax.train.corpus_position import CorpusPosition, data_order, records
from bertjax.train.first_weights import initial_params, open_origin
from bertjax.train.open_corpus import open_corpus_together, settled
from bertjax.train.pretraining_job import (
    accumulation_steps,
    check_sizes,
    config_cautions,
    cost_of_step,
    decided_precision,
    describe_job,
    make_job,
    precision_cautions,
    split_cautions,
)
from bertjax.workdir.config_json import config_record, fingerprints, origin_fingerprint, write_beginning, write_json


def pretrain(
    run: RunConfig,
    workdir: Path,
    recorded: dict[str, Any] | None,
    should_stop: Callable[[int], bool],
    display: Display,
    processes: Processes,
) -> dict[str, Any]:
    """See ``bertjax.train.run``. ``recorded``: the config.json of the run this one goes on with, or None. Every process
    goes through all of it; what is written, the first one writes."""
    # --- Sizes: what cannot be is refused before anything is built ---------------------------------------------
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor)
    check_optimizer(run.optimizer.name)
    objective = run_objective(run)
    if run.precision == "auto":
        run = with_precision(run, recorded, mesh, display, processes)
    check_sizes(run, mesh)

    # --- Corpus: prepared and checked before anything is compiled ---------------------------------------------
    is_new_from_origin = run.init_from is not None and recorded is None
    origin = open_origin(run, processes) if is_new_from_origin else None
    corpus = open_corpus_together(run, recorded, display, processes, workdir)
    began_with = fingerprints(recorded)
    if origin is not None:
        began_with["init_from"] = origin_fingerprint(str(origin.path))
    is_lowercase_asked = run.data.lowercase and "data.lowercase" not in run.unset
    run = settled(run, recorded, corpus)
    phases = list(run.phases.values())
    order = data_order(recorded)
    settings = [phase_settings(run, index, order) for index in range(len(phases))]
    trained_on = {name: one for (name, phase), one in zip(run.phases.items(), settings, strict=True) if phase.steps}
    pairs = phase_pairs(objective, corpus.train, trained_on, run.seed)
    if recorded is None:
        check_pairs(objective, corpus.train, pairs)
    key = "config.data.whole_word_masking"
    word_warnings = [] if recorded else check_words(corpus.train, corpus.tokenizer, settings[0], key)
    unigram = unigram_log_probs(corpus.token_counts)
    suites = InlineSuites(run.evaluation, corpus.tokenizer, run.model)

    # --- Model and steps ----------------------------------------------------------------------------------------
    if run.deterministic:
        check_sums()
    job = make_job(run, mesh)
    parts = {f"accumulation in {name}": accumulation_steps(run, phase, mesh) for name, phase in run.phases.items()}
    processes.must_equal("installation", versions())
    processes.must_equal("split of the batch, which follows the memory (or config.parallel.rows_per_device),", parts)
    for line in describe_job(job):
        display.say(line)
    for name, facts in pairs.items():
        display.say(f"{name}: {facts_line(objective, facts)}")
    not_exportable = why_not_exportable(run.model)
    warnings = [
        *([f"the run will end without a model folder: {not_exportable}"] if not_exportable else []),
        *suites.cautions,
        *text_warnings(corpus, is_lowercase_asked),
        *pair_lines(objective, corpus.train, pairs),
        *word_warnings,
        *config_cautions(run),
        *(precision_cautions(run, mesh) if processes.first and recorded is None else []),
        *split_cautions(run, mesh),
    ]
    for line in warnings:
        display.say(f"warning: {line}")
    eval_step = job.eval_step()

    # --- State: from the newest whole checkpoint, or new ------------------------------------------------------
    costs = [cost_of_step(run.model, phase) for phase in phases]
    ahead = steps_ahead([cost.flops for cost in costs], mesh)
    session = Session(workdir, mesh, display, processes, any_of(mesh, should_stop, ahead), refresh_report)
    checkpoints = Checkpoints(workdir, run.checkpoint, mesh, display.say, processes.share)
    in_checkpoints = records(run, corpus.tokenizer_fingerprint, corpus.fingerprint, versions(), order)
    here = restore(checkpoints, session, job.state_shapes(), in_checkpoints)
    if here is None:
        state = job.initial_state()
        if origin is not None:
            state = with_params(state, initial_params(origin, run, corpus.tokenizer, display.say))
        here = RunPosition(state, CorpusPosition())
    elif order < ORDER:
        display.say(f"        examples are made by version {order} of the rules, as when the run began, not by {ORDER}")
    if processes.first:  # after what killed runs left has been cleared away, which may have filled the disk
        unfinished.clear(workdir)
        began_with |= {"tokenizer": corpus.tokenizer_fingerprint}
        identity = {"fingerprint": corpus.fingerprint, "path": str(corpus.path.resolve()), "order": order}
        record = config_record(run, identity, versions(), began_with)
        write_beginning(workdir, record, corpus.tokenizer.save)

    # --- Phases ---------------------------------------------------------------------------------------------------
    starts = [run.phase_start(index) for index in range(len(phases))]
    stages = [Stage(name, s + 1, s + p.steps) for s, (name, p) in zip(starts, run.phases.items(), strict=True)]
    in_turn = steps_of_stages(
        {index: stages[index].name for index, phase in enumerate(phases) if phase.steps},
        make=lambda index: job.train_step(phases[index]),
        shapes=lambda index: job.step_shapes(settings[index].empty(phases[index].batch_size, corpus.tokenizer.pad_id)),
        say=display.say,
    )
    placement = over(mesh, lambda: session.agree(here.step))

    def held_out(params: Any, index: int) -> dict[str, float]:
        rows = max(phases[index].batch_size // accumulation_steps(run, phases[index], mesh), batch_shards(mesh))
        read = evaluation_batches(corpus.held_out, corpus.tokenizer, settings[index], rows, run.evaluation.max_rows)
        return evaluate(eval_step, params, read, placement, unigram, objective.losses)

    def evaluate_all(here: RunPosition, index: int) -> Evaluation:
        params, stage = here.state.params, stages[index]
        losses = held_out(params, index)
        scores = suites.scores(here.step, here.step == stage.last, lambda: job.model(params), placement)
        line = evaluation_line(here.step, stage.name, losses, objective.losses) + in_words(scores)
        return Evaluation(losses | scores, line, losses["loss"], losses)

    every = lambda steps: lambda step: bool(steps and step % steps == 0)
    is_evaluated = every(run.evaluation.every_steps)
    training = Training(
        stages,
        partial(training_batches, run, corpus, settings, mesh),
        lambda index: processes.progress.slow_at_first(step(index)),
        cost=lambda index, batch: costs[index],
        evaluate=evaluate_all,
        evaluate_at=lambda step: is_evaluated(step) or suites.due(step),
        save_at=every(run.checkpoint.every_steps),
        state_shapes=job.state_shapes,
        guard=run.guard,
        logging=run.logging,
        fields=objective.fields,
        events=[("warning", line) for line in warnings],
        ahead=ahead,
    )
    with in_turn as step:
        latest = fit(here, training, checkpoints, in_checkpoints, session)

    # --- Result -----------------------------------------------------------------------------------------------------
    if latest is not None and latest[0] == run.total_steps:
        losses = latest[1].result
    else:  # a finished run, started again
        losses = session.evaluate(here.step, lambda: held_out(here.state.params, len(phases) - 1))
    summary = summarise(run, objective.losses, losses, here.totals, corpus.manifest["held_out"]["kind"])
    with processes.progress.pause("exporting"):
        params = gathered(here.state.params, mesh)
        if processes.first:
            if not not_exportable:
                export_params(workdir / "model", run.model, params, corpus.tokenizer, without=objective.own_heads)
            write_json(workdir / "summary.json", summary)
    session.report()
    for line in summary_lines(summary, objective.losses, workdir, has_model=not not_exportable):
        display.say(line)
    return summary


def with_precision(
    run: RunConfig, recorded: dict[str, Any] | None, mesh: Mesh, display: Display, processes: Processes
) -> RunConfig:
    """The run with a precision in the place of "auto": the one it began with, or the faster one here, for good."""
    if recorded is not None:
        return with_values(run, {"precision": recorded["identity"]["precision"]})
    precision, why = processes.share("precision", decided_precision(run, mesh))
    display.say(f"precision: {precision} ({why}); the run keeps it when it resumes")
    return with_values(run, {"precision": precision})


def training_batches(
    run: RunConfig,
    corpus: PreparedCorpus,
    settings: Sequence[ExampleSettings],
    mesh: Mesh,
    index: int,
    position: CorpusPosition,
) -> Batches:
    """The global batches of phase ``index`` from the position on, each with the position after it."""
    size = list(run.phases.values())[index].batch_size
    return open_batches(
        corpus.train,
        corpus.tokenizer,
        settings,
        seed=run.seed,
        phase_index=index,
        batch_size=size,
        cursor=position.cursor,
        rows=process_rows(size, mesh),
        prefetch=run.data.prefetch,
        place=lambda batch, cursor: (to_global(batch, mesh), CorpusPosition(cursor, index)),
    )


def evaluate(
    eval_step: Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]],
    params: Any,
    batches: Iterable[dict[str, np.ndarray]],
    placement: Placement,
    unigram: np.ndarray,
    losses: Sequence[CrossEntropy],
) -> dict[str, float]:
    """The held-out values of the losses over all batches (``CrossEntropy.held_out``), and their sum as ``loss``.
    unigram: log probabilities [V]. Raises whatever ``placement.put`` does."""
    totals: Any = Counter()
    for batch, sums in placement.results(partial(eval_step, params), ((batch, batch) for batch in batches)):
        for loss in losses:
            sums |= loss.counts(batch, unigram)
        totals.update({name: float(value) for name, value in sums.items()})
    result: dict[str, float] = {}
    for loss in losses:
        result |= loss.held_out(totals)
    return result | {"loss": sum(result.get(loss.fields[0], 0.0) for loss in losses)}


def evaluation_line(step: int, phase: str, values: dict[str, float], losses: Sequence[CrossEntropy]) -> str:
    return f"held out at step {step} ({phase}): " + ", ".join(filter(None, (loss.brief(values) for loss in losses)))


def summarise(
    run: RunConfig,
    losses: Sequence[CrossEntropy],
    held_out: dict[str, float],
    totals: dict[str, float],
    held_out_kind: str,
) -> dict[str, Any]:
    """summary.json: held-out figures beside their baselines, and what the run took.

    totals: seconds and real_tokens of the whole run. held_out_kind: how the held-out text was chosen (the
    corpus manifest says); "copy" is text that was trained on.
    """
    places = sum(p.steps * p.batch_size * p.sequence_length for p in run.phases.values())
    return {
        "name": run.name,
        "held_out": {name: held_out[name] for loss in losses for name in loss.fields if name in held_out},
        "held_out_kind": held_out_kind,
        **{name: held_out.get(name) for loss in losses for name in loss.baselines},
        **run_figures(run.total_steps, totals, places),
    }


def summary_lines(
    summary: dict[str, Any], losses: Sequence[CrossEntropy], workdir: Path, has_model: bool = True
) -> list[str]:
    what = "training-text" if summary["held_out_kind"] == "copy" else "held-out"
    lines = list(filter(None, (loss.summary(summary | summary["held_out"], what) for loss in losses)))
    lines.append(
        f"{summary['steps']:,} steps, {summary['real_tokens']:,} real tokens in {summary['seconds']:,.0f} s "
        f"({summary['tokens_per_second']:,.0f} a second), padding {summary['padding_fraction']:.2%}, "
        f"peak memory {summary['peak_memory']['host_bytes'] / 1e9:.2f} GB"
    )
    model = f"the model is in {workdir / 'model'}, " if has_model else ""
    lines.append(f"{model}the figures are in {workdir / 'summary.json'}")
    return lines
