"""A job in its workdir: the folder is checked and locked, the processes are joined. One job at a time owns a workdir,
on local disks and on file systems that several machines share.

Two things hold it. A lock of the kernel, which goes with its owner however that ends; on many network file systems
it is known to one machine only. So the owner also renews a lease, a line in the locked file. Whoever finds the lease
of another machine watches whether it is renewed: clocks of two machines are never compared.
"""

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from bertjax.cli.command import fail
from bertjax.cli.paths import given_path, utf8_path
from bertjax.cli.progress import Display
from bertjax.cli.showing import note
from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.processes import Processes, distributed_run
from bertjax.cluster.watchdog import Heartbeat, interruptible
from bertjax.compile_cache import forget_compiled_programs
from bertjax.errors import ConfigError, WorkdirGone, exit_code
from bertjax.parallel.deterministic import has_gpu_plugin, make_deterministic
from bertjax.workdir.belongings import LOCK, check_workdir

RENEW_SECONDS = 5.0
# How long a lease stays valid without renewal: three renewals may be late, as on a machine that is short of memory.
DEAD_AFTER_SECONDS = 20.0
# After a lease was taken over, in which another machine that did the same may have written its own.
SETTLE_SECONDS = 2.0
_MOST_BYTES = 4096

OnLost = Callable[[Exception], None]


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
    if cluster is not None and has_gpu_plugin():
        # GPUs of several processes tune kernels together, so none may find its program in a cache that others miss.
        forget_compiled_programs()
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


@contextlib.contextmanager
def workdir_lock(workdir: Path, on_lost: OnLost | None = None) -> Iterator[None]:
    """Holds the workdir for this process. Raises ConfigError if another running job holds it.

    Takes no time if nobody held it, or its owner was on this machine; if the owner was on another one and may have
    died, ``DEAD_AFTER_SECONDS``. If another job has taken the lease - this process was suspended for too long, or
    somebody removed the file - ``on_lost`` is called from another thread with a ConfigError, and with a WorkdirGone if
    the folder itself was removed or moved; by default that is raised in the block. If only the file was removed, the
    lease is taken again.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = os.open(workdir / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        if not os.access(workdir, os.W_OK | os.X_OK, effective_ids=True):
            os.close(handle)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigError(f"cannot write to workdir {workdir}: {error.strerror}") from None
    try:
        if _is_locked_by_another(handle):
            raise _in_use(workdir, _read(workdir))
        with interruptible() as interruption, _leased(workdir, handle, on_lost or interruption.interrupt):
            yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _leased(workdir: Path, handle: int, lost: OnLost) -> Iterator[None]:
    found = _read(workdir)
    machine = _machine(handle)
    elsewhere = bool(found) and found.get("machine") != machine
    if elsewhere:
        _wait_until_dead(workdir, found)
    lease = {"process": os.getpid(), "host": os.uname().nodename, "machine": machine, "owner": uuid.uuid4().hex}
    _write(handle, lease | {"renewed": 0})
    if elsewhere:
        time.sleep(SETTLE_SECONDS)
        now = _read(workdir)
        if now.get("owner") != lease["owner"]:
            raise _in_use(workdir, now)
    ended = threading.Event()
    holder = _Holder(workdir, handle, lease)
    renewing = threading.Thread(target=_renew, args=(holder, ended, lost), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        if _read(workdir).get("owner") == lease["owner"]:
            with contextlib.suppress(OSError):
                os.ftruncate(holder.handle, 0)  # nobody has to wait for a job that is over
        holder.close()


class _Holder:
    """The lease of this process, and its file and folder."""

    def __init__(self, workdir: Path, handle: int, lease: dict[str, Any]):
        self.workdir, self.handle, self._lease, self._renewed = workdir, os.dup(handle), lease, 0
        # Kept open: the folder may be renamed, and another one take its name.
        self._folder = os.open(workdir, os.O_RDONLY | os.O_DIRECTORY)

    def renew(self) -> None:
        """Raises ConfigError if another job has the workdir, WorkdirGone where it is gone, OSError where the
        disk does not let it be seen."""
        now = _read(self.workdir)
        if now and now.get("owner") != self._lease["owner"]:
            raise ConfigError(f"workdir {self.workdir} has been taken over by {_owner(now)}; this job ends")
        if not now:
            self._take_again()
        self._renewed += 1
        _write(self.handle, self._lease | {"renewed": self._renewed})

    def close(self) -> None:
        os.close(self._folder)
        os.close(self.handle)

    def _take_again(self) -> None:
        """The file is gone, empty or unreadable: it may be another file, and another folder."""
        if not _is_same(self._folder, self.workdir):
            raise WorkdirGone(self.workdir)
        if _is_same(self.handle, self.workdir / LOCK):
            return
        handle = os.open(self.workdir / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        if _is_locked_by_another(handle):
            os.close(handle)
            raise ConfigError(f"workdir {self.workdir} has been taken over by another job; this job ends")
        os.close(self.handle)
        self.handle = handle


def _is_locked_by_another(handle: int) -> bool:
    """Takes the lock if it is free."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter from locks of byte ranges, as NFS has
        return True
    except OSError:  # a file system without locks; the lease is what there is
        pass
    return False


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _renew(holder: _Holder, ended: threading.Event, lost: OnLost) -> None:
    while not ended.wait(RENEW_SECONDS):
        with contextlib.suppress(OSError):  # a disk that is full, a server that is away: the next time
            try:
                holder.renew()
            except (ConfigError, WorkdirGone) as error:
                lost(error)
                return


def _wait_until_dead(workdir: Path, found: dict[str, Any]) -> None:
    """Returns when the lease was not renewed for long enough. Raises ConfigError as soon as it is."""
    note(f"workdir {workdir}: is {_owner(found)} still alive? ...")
    until = time.monotonic() + DEAD_AFTER_SECONDS
    while time.monotonic() < until:
        time.sleep(RENEW_SECONDS / 10)
        now = _read(workdir)
        if now != found:
            if not now:  # it has just ended
                return
            raise _in_use(workdir, now)


def _in_use(workdir: Path, lease: dict[str, Any]) -> ConfigError:
    return ConfigError(f"workdir {workdir} is in use by {_owner(lease)}; choose another with --workdir=DIR")


def _owner(lease: dict[str, Any]) -> str:
    return f"process {lease['process']} on {lease['host']}" if "process" in lease else "another process"


def _read(workdir: Path) -> dict[str, Any]:
    """The lease as it is on the server; {} for none, or one that is just being written."""
    try:
        lease = json.loads((workdir / LOCK).read_bytes()[:_MOST_BYTES])
    except (OSError, ValueError, RecursionError):
        return {}
    return lease if isinstance(lease, dict) else {}


def _write(handle: int, lease: dict[str, Any]) -> None:
    # Longer than any other, so that one write replaces all of what was there.
    os.pwrite(handle, json.dumps(lease).encode().ljust(512), 0)
    os.fsync(handle)


def _machine(handle: int) -> str:
    """Names this boot of this machine and this mount, within which the kernel's lock can be relied on: two containers
    of a machine may have mounted the same bucket twice."""
    mount = os.fstat(handle).st_dev
    with contextlib.suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {mount}"
    return f"{os.uname().nodename} {mount}"


def leave(error: Exception) -> NoReturn:
    """Ends the process at once: nothing more may be written to a workdir that is another job's, or is not there."""
    os._exit(fail(error, exit_code(error)))
