"""Fine-tuning. ``bertjax.finetune.run(config, model, train, eval, workdir)`` does what the command does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertjax.cluster.environment import ClusterMember
    from bertjax.cluster.watchdog import Heartbeat
    from bertjax.finetune.model_and_examples import Source


def run(
    config: Any,
    model: str | Path | None = None,
    train: Source | None = None,
    eval: Source | None = None,
    workdir: str | Path | None = None,
    *,
    should_stop: Callable[[int], bool] = lambda step: False,
    say: Callable[[str], None] | None = None,
    cluster: ClusterMember | None = None,
    bind: str | None = None,
    on_stall: Callable[[Heartbeat], None] | None = None,
) -> dict[str, Any]:
    """Fine-tunes a model for a task and returns the summary; resumes if the workdir has a checkpoint.

    config: a ConfigDict (or nested dict) of ``bertjax.finetune.settings``. model: a model folder, the workdir of a
    pretraining run, or one of its checkpoints. train, eval: labelled files; or lists of texts (or pairs of texts, or
    of words) with their labels, as ``(texts, labels)``; or questions as dicts like SQuAD's. What is None is taken
    from the config; workdir is runs/<config.name> then. With several learning rates, epochs or seeds the workdir
    holds a run of each in ``runs``, and the model of the best. should_stop, say, cluster, bind, on_stall: as
    in ``bertjax.train.run``; updates are counted in each trial.

    Raises ConfigError (config, workdir), DataError (labelled data), ModelFileError, CheckpointError, Diverged, Stalled.
    """
    from bertjax.errors import ConfigError
    from bertjax.finetune.settings import resolve, to_dict
    from bertjax.workdir.lock import opened_workdir

    resolved = resolve(config)
    sources = {
        "model": resolved.model.path if model is None else model,
        "train": resolved.data.train if train is None else train,
        "eval": resolved.data.eval if eval is None else eval,
    }
    for name, source in sources.items():
        if source is None:
            key = "model.path" if name == "model" else f"data.{name}"
            raise ConfigError(f"no {name}; give one with --{name}=PATH, or set config.{key}")
    opened = opened_workdir(workdir, resolved, to_dict(resolved), cluster, bind, on_stall, say)
    with opened as (folder, _, display, processes):
        from bertjax.finetune.trials import run_trials

        return run_trials(resolved, sources, folder, should_stop, display, processes)
