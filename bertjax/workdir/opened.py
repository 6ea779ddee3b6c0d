"""A job in its workdir: the folder is checked and locked, the processes are joined."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bertjax.cli.paths import given_path, utf8_path
from bertjax.cli.progress import Display
from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.processes import Processes, distributed_run
from bertjax.cluster.watchdog import Heartbeat
from bertjax.parallel.deterministic import make_deterministic
from bertjax.workdir.belongings import check_workdir
from bertjax.workdir.lock import leave, workdir_lock


@contextlib.contextmanager
def opened_workdir(
    path: str | Path | None,
    run: Any,
    config: Mapping[str, Any],
    cluster: ClusterMember | None,
    bind: str | None,
    on_stall: Callable[[Heartbeat], None] | None,
    say: Callable[[str], None] | None,
    on_record: Callable[[Path], Any] = lambda workdir: None,
) -> Iterator[tuple[Path, Any, Display, Processes]]:
    """(workdir, what ``on_record`` finds in it, display, processes of the run).

    path: by default runs/<run.name>. run: the resolved config; config: the same as plain JSON, which must be equal in
    all processes. on_record: called in process 0 before jax is imported, which takes seconds: a run that may not start
    should say so at once.
    """
    workdir = utf8_path(given_path(f"runs/{run.name}" if path is None else path, "workdir"), "workdir")
    check_workdir(workdir)  # in every process, before anything is written
    if run.deterministic:
        make_deterministic()
    with contextlib.ExitStack() as stack:
        watchdog = run.parallel.watchdog_seconds
        processes = stack.enter_context(distributed_run(cluster, bind, watchdog, workdir, on_stall))
        found = None
        if processes.first:
            # From a command, which brings its own end, a lost workdir ends the process; else it is raised.
            stack.enter_context(workdir_lock(workdir, leave if on_stall else None))
            found = on_record(workdir)
        found = processes.share("run on record", found)
        processes.must_equal("config", dict(config))
        # What process 0 says is the same in all.
        yield workdir, found, Display(say if processes.first else lambda line: None), processes
