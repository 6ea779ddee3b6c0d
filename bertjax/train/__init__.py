"""Pretraining. ``bertjax.train.run(config, workdir)`` does what ``python -m bertjax.train`` does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertjax.errors import CheckpointError, Diverged, Stalled, Stopped, WorkdirGone

if TYPE_CHECKING:
    from bertjax.cluster.environment import ClusterMember
    from bertjax.cluster.watchdog import Heartbeat

__all__ = ["CheckpointError", "Diverged", "Stalled", "Stopped", "WorkdirGone", "run"]


def run(
    config: Any,
    workdir: str | Path,
    *,
    should_stop: Callable[[int], bool] = lambda step: False,
    say: Callable[[str], None] | None = None,
    cluster: ClusterMember | None = None,
    bind: str | None = None,
    on_stall: Callable[[Heartbeat], None] | None = None,
) -> dict[str, Any]:
    """Trains to the end of the config's phases and returns the summary; resumes where the workdir has a checkpoint.

    config: a ConfigDict (or nested dict). should_stop: asked after every step, and before every batch of an
    evaluation, with the number of completed updates; where it answers True the run saves and raises ``Stopped``, and
    does an evaluation that it left when it goes on. say: gets every line that would be
    printed (a live progress display on standard output otherwise). cluster: the processes to train with
    (``bertjax.cluster.environment.find_cluster()``), of which a failing one ends all, the interpreter included; None:
    this one alone. bind: the address that process 0 listens at. on_stall: called once, from another thread, where the
    run, alone, does not move for ``config.parallel.watchdog_seconds``; by default it raises ``Stalled`` here
    (``bertjax.cluster.watchdog``), which a thread that hangs within native code does when that returns.

    Raises ConfigError (config, workdir), DataError (corpus), CheckpointError, Diverged, Stalled. With ``cluster`` None
    it never ends the interpreter because it stalls.
    """
    from bertjax.cli.paths import given_path, utf8_path
    from bertjax.cluster.processes import together
    from bertjax.config import resolve, to_dict
    from bertjax.errors import exit_code
    from bertjax.parallel.deterministic import make_deterministic
    from bertjax.train.open_corpus import BY_CONTENT
    from bertjax.workdir.belongings import check_workdir
    from bertjax.workdir.files import recorded_config
    from bertjax.workdir.lock import claimed, leave
    from bertjax.workdir.same_run import check_same_run

    resolved, workdir = resolve(config), utf8_path(given_path(workdir, "workdir"), "workdir")
    check_workdir(workdir)  # in every process, before anything is written
    if resolved.deterministic:
        make_deterministic()
    with contextlib.ExitStack() as stack:
        watchdog = resolved.parallel.watchdog_seconds
        processes = stack.enter_context(together(cluster, bind, watchdog, exit_code, workdir, on_stall))
        recorded = None
        if processes.first:
            # From a command, which brings its own end, a lost workdir ends the process; else it is raised.
            stack.enter_context(claimed(workdir, leave if on_stall else None))
            # Before jax is imported, which takes seconds: a run that may not start should say so at once.
            recorded = recorded_config(workdir)
            if recorded is not None:
                check_same_run(recorded, resolved, workdir, BY_CONTENT)
        recorded = processes.share("run on record", recorded)
        processes.must_equal("config", to_dict(resolved))
        from bertjax.cli.display import Display
        from bertjax.train.pretraining import train

        silent: Callable[[str], None] = lambda line: None  # what process 0 says is the same in all
        display = Display(say if processes.first else silent)
        return train(resolved, workdir, recorded, should_stop, display, processes)
