"""The processes of a run: joined, watched, and ended together."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.monitor import Monitor
from bertjax.cluster.secret import shared_secret
from bertjax.cluster.watchdog import Heartbeat, end_stalled, interruptible, raise_stalled, watchdog
from bertjax.errors import STOPPED, UNKNOWN, ConfigError, Lost, exit_code

JOIN_SECONDS = 300
# jax's default of 100 s would end a run whose processes were all stopped; the monitor detects a lost process sooner.
HEARTBEAT_SECONDS = 86_400
# The server should be the first to name the stalled process; each process's own watchdog waits a little longer.
GRACE_SECONDS = 3.0


@dataclass(frozen=True)
class Processes:
    """This process among those of the run. ``index`` 0 writes the files of the run."""

    index: int = 0
    count: int = 1
    progress: Heartbeat = field(default_factory=Heartbeat)
    monitor: Monitor | None = None

    @property
    def first(self) -> bool:
        return self.index == 0

    def share(self, name: str, value: Any) -> Any:
        """Waits for all processes and returns process 0's ``value`` (plain JSON). Each name is used once."""
        return value if self.monitor is None else self.monitor.share(name, value)

    def must_equal(self, what: str, values: dict[str, Any]) -> None:
        """Raises ConfigError that names every value (plain JSON) that differs from process 0's."""
        if self.monitor is None:
            return
        from flax.traverse_util import flatten_dict

        here, there = (flatten_dict(tree, sep=".") for tree in (values, self.share(what, values)))
        differ = [key for key in sorted(here | there) if here.get(key) != there.get(key)]
        if differ:
            shown = ", ".join(f"{key} = {here.get(key)!r} here, {there.get(key)!r} there" for key in differ)
            raise ConfigError(
                f"the {what} differs from that of process 0: {shown}; start every process with the same command"
            )


@contextlib.contextmanager
def distributed_run(
    cluster: ClusterMember | None,
    bind: str | None,
    stall_seconds: float,
    workdir: Path,
    on_stall: Callable[[Heartbeat], None] | None = None,
) -> Iterator[Processes]:
    """The processes of a cluster, joined for the length of the block; with None this process alone.

    An exception that leaves the block ends all processes with its message and exit code; with code 75 each ends by
    itself. bind: address at which process 0 listens, by default the coordinator's. workdir: holds the secret of the
    processes. A process without progress for ``stall_seconds`` (0: no limit) ends all; one that is alone calls
    ``on_stall`` from another thread, by default to raise Stalled in the block. Raises ConfigError or Lost if joining
    fails.
    """
    if cluster is None:
        progress = Heartbeat()
        with interruptible() as interruption:
            act = on_stall or (lambda progress: raise_stalled(progress, interruption))
            with watchdog(progress, stall_seconds, lambda: act(progress)):
                yield Processes(progress=progress)
        return
    bind, progress = bind or cluster.host, Heartbeat()
    with shared_secret(workdir, cluster.process_id == 0) as secret:
        monitor = Monitor(cluster, bind, progress, stall_seconds, secret)
        _meet(cluster, bind, monitor)
    limit = stall_seconds + GRACE_SECONDS if stall_seconds else 0
    with watchdog(progress, limit, lambda: end_stalled(progress)):
        try:
            _join_jax(cluster, bind)
            yield Processes(cluster.process_id, cluster.num_processes, progress, monitor)
        except BaseException as error:
            code = exit_code(error)
            if code == STOPPED:
                _leave(monitor)
                raise
            what = str(error)
            if code == UNKNOWN:
                # When a process dies, collectives fail in the others; the monitor knows better, and ends us first.
                time.sleep(GRACE_SECONDS)
                what = f"{type(error).__name__}: {error}"
            monitor.report(f"process {cluster.process_id} on {socket.gethostname()}: {what}", code)
            raise
        _leave(monitor)


def _meet(cluster: ClusterMember, bind: str, monitor: Monitor) -> None:
    """Waits for all processes. Raises Lost if some are missing, ConfigError if process 0 cannot listen."""
    try:
        monitor.join(JOIN_SECONDS)
        # If one is missing, jax aborts the interpreter.
        monitor.share("all are there", None, JOIN_SECONDS)
    except TimeoutError as error:
        raise Lost(f"process {cluster.process_id} cannot join ({cluster.found_by}): {error}") from None
    except OSError as error:
        raise ConfigError(
            f"process 0 cannot listen at {bind}, port {cluster.port + 1} ({error.strerror or error}); "
            f"choose an address of this machine with --bind=ADDRESS, or another port"
        ) from None


def _join_jax(cluster: ClusterMember, bind: str) -> None:
    """Joins the processes of jax. Raises ConfigError if its coordinator cannot listen, Lost if not all of them join."""
    if cluster.process_id == 0:
        # Try the port first: if it is taken, jax may end the interpreter silently.
        try:
            family = socket.AF_INET6 if ":" in bind else socket.AF_INET
            socket.create_server((bind, cluster.port), family=family).close()
        except OSError as error:
            raise ConfigError(
                f"jax's coordinator cannot listen at {bind}, port {cluster.port} ({error.strerror or error}); "
                f"choose another port"
            ) from None
    import jax

    # Its signal handler would replace the command's, which saves and stops all processes at the same step.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            f"{_bracketed(cluster.host)}:{cluster.port}",
            cluster.num_processes,
            cluster.process_id,
            local_device_ids=cluster.local_devices,
            cluster_detection_method="deactivate",
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            coordinator_bind_address=f"{_bracketed(bind)}:{cluster.port}",
        )
    except RuntimeError as error:  # jax's own errors are of this kind
        reason = " ".join(str(error).split())[:200]
        raise Lost(f"jax's processes cannot join at {cluster.host}:{cluster.port} ({reason})") from None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host  # IPv6


def _leave(monitor: Monitor) -> None:
    import jax

    monitor.leave()
    jax.distributed.shutdown()
