"""How ``train`` and ``finetune`` run as commands: options of the processes, stop signals, one process of several."""

import io
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from bertjax.cli.command import guarded, whole_number
from bertjax.cli.showing import say
from bertjax.cli.streams import prepared_streams
from bertjax.cluster.environment import ClusterMember, find_cluster
from bertjax.cluster.watchdog import end_stalled
from bertjax.errors import STOPPED, UNKNOWN, ConfigError

# See ``find_cluster``.
CLUSTER_OPTIONS = {
    "coordinator": (None, "HOST:PORT of process 0"),
    "num_processes": (None, "number of processes"),
    "process_id": (None, "number of this process, from 0"),
    "bind": (None, "address at which process 0 listens"),
}


class StopRequest:
    """SIGTERM, SIGINT and SIGHUP: the first asks the run to save and stop, a second leaves at once.

    A hang-up is never that second: when a terminal closes, shell and kernel each send one, and service managers send
    one after their SIGTERM.
    """

    def __init__(self) -> None:
        self._asked = False
        self._insisting = False  # whether a signal other than a hang-up has asked
        self._running = False

    def __enter__(self) -> "StopRequest":
        hang_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN  # started by nohup
        numbers = (signal.SIGTERM, signal.SIGINT, *[signal.SIGHUP] * hang_up)
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, step: int) -> bool:
        self._running = True
        return self._asked

    def _on_signal(self, number: int, frame: object) -> None:
        # Before the first step is done there is nothing to save; and whoever asks twice does not want to wait.
        if not self._running or (self._insisting and number != signal.SIGHUP):
            os._exit(STOPPED)
        self._asked = True
        self._insisting = self._insisting or number != signal.SIGHUP


def as_command(run: Callable[..., object]) -> Callable[[Any, dict[str, Any]], int]:
    """``command(config, options)``, which calls ``run(config, **options, should_stop, cluster, bind, on_stall)``, in
    one of several processes if ``CLUSTER_OPTIONS`` or the environment say so, and returns the exit code."""

    def command(config: Any, options: dict[str, Any]) -> int:
        coordinator, bind = options.pop("coordinator"), options.pop("bind")
        count, index = (_whole_number(name, options.pop(name)) for name in ("num_processes", "process_id"))
        cluster = find_cluster(coordinator, count, index)
        settings = {**options, "cluster": cluster, "bind": bind, "on_stall": end_stalled}
        return run_in_cluster(cluster, lambda stop: run(config, should_stop=stop, **settings))

    return command


def run_in_cluster(cluster: ClusterMember | None, job: Callable[[StopRequest], object]) -> int:
    """The exit code of a job that signals can stop and that needs no output; one of several processes ends here."""
    with prepared_streams("stderr", "stdout"), StopRequest() as stop:
        return guarded(lambda: job(stop)) if cluster is None else _one_of_many(cluster, lambda: job(stop))


def _one_of_many(cluster: ClusterMember, job: Callable[[], object]) -> NoReturn:
    """Runs the job and ends the process, so that nothing in jax waits for the others."""
    code = UNKNOWN
    sys.stdout, sys.stderr = (NumberedLines(stream, cluster.process_id) for stream in (sys.stdout, sys.stderr))
    try:
        here = f"process {cluster.process_id} of {cluster.num_processes} on {socket.gethostname()}"
        say(f"{here}, found by {cluster.found_by}; process 0 is at {cluster.host}:{cluster.port}")
        code = guarded(job)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _whole_number(name: str, text: str | None) -> int | None:
    number = None if text is None else whole_number(text)
    if text is not None and number is None:
        raise ConfigError(f"--{name} must be a whole number, not {text[:40]!r}")
    return number


class NumberedLines(io.TextIOBase):
    """A text stream whose lines begin with the number of the process that writes them."""

    def __init__(self, stream: TextIO, number: int):
        self._stream, self._mark, self._at_start = stream, f"[{number}] ", True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            self._stream.write(self._mark + line if self._at_start else line)
            self._at_start = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()
