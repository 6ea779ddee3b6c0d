"""Pretraining. ``bertjax.train.run(config, workdir)`` does what ``python -m bertjax.train`` does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.watchdog import Heartbeat
from bertjax.errors import CheckpointError, Diverged, Stalled, Stopped, WorkdirGone

__all__ = ["CheckpointError", "Diverged", "Stalled", "Stopped", "WorkdirGone", "run"]


def run(
    config: Any,
    workdir: str | Path | None = None,
    *,
    should_stop: Callable[[int], bool] = lambda step: False,
    say: Callable[[str], None] | None = None,
    cluster: ClusterMember | None = None,
    bind: str | None = None,
    on_stall: Callable[[Heartbeat], None] | None = None,
) -> dict[str, Any]:
    """Trains to the end of the config's phases and returns the summary; resumes if the workdir has a checkpoint.

    config: a ConfigDict (or nested dict). workdir: by default runs/<config.name>. should_stop: asked after every
    step, and before every batch of an evaluation, with the number of completed updates; where it answers True the run
    saves and raises ``Stopped``, and runs an evaluation that it left when it resumes. say: gets every line that would
    be printed (a live progress display on standard output otherwise). cluster: the processes to train with
    (``bertjax.cluster.environment.find_cluster()``), of which a failing one ends all, the interpreter included; None:
    this one alone. bind: the address that process 0 listens at. on_stall: called once, from another thread, where the
    run, alone, does not move for ``config.parallel.watchdog_seconds``; by default it raises ``Stalled`` here
    (``bertjax.cluster.watchdog``), which a thread that hangs within native code does when that returns.

    Raises ConfigError (config, workdir), DataError (corpus), CheckpointError, Diverged, Stalled. With ``cluster`` None
    it never ends the interpreter because it stalls.
    """
    from bertjax.config import resolve, to_dict
    from bertjax.train.open_corpus import BY_CONTENT
    from bertjax.workdir.config_json import check_same_run, recorded_config
    from bertjax.workdir.lock import opened_workdir

    resolved = resolve(config)

    def on_record(workdir: Path) -> dict[str, Any] | None:
        recorded = recorded_config(workdir)
        if recorded is not None:
            check_same_run(recorded, resolved, workdir, BY_CONTENT)
        return recorded

    opened = opened_workdir(workdir, resolved, to_dict(resolved), cluster, bind, on_stall, say, on_record)
    with opened as (folder, recorded, display, processes):
        from bertjax.train.pretraining import pretrain

        return pretrain(resolved, folder, recorded, should_stop, display, processes)
