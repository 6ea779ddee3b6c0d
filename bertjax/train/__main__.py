"""python -m bertjax.train --config=CONFIG [--workdir=DIR] [--config.KEY=VALUE ...]"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from bertjax.cli.command import fail, guarded, show_help
from bertjax.cli.config_help import as_text as config_help
from bertjax.cli.digits import whole_number
from bertjax.cli.flags import parse
from bertjax.cli.showing import say
from bertjax.cli.streams import lasting, ready
from bertjax.cluster.environment import Cluster, find_cluster
from bertjax.cluster.watchdog import end_stalled
from bertjax.config import RunConfig
from bertjax.errors import STOPPED, UNKNOWN, USAGE, ConfigError, FlagError
from bertjax.train import run

HELP = """\
python -m bertjax.train --config=CONFIG [--workdir=DIR] [--config.KEY=VALUE ...]

Pretrains a BERT: prepares the corpus, trains all phases, evaluates on held-out text, and leaves the model in
DIR/model in the Hugging Face layout. A DIR that has a checkpoint is resumed.

  --config=CONFIG       tiny (two CPU cores), small (one GPU), base and large (BERT as published), or a Python file of
                        yours with get_config()
  --config.KEY=VALUE    overrides one key of it, for example
                          --config.data.corpus=PATH           your text: .txt, .jsonl, .parquet, also .gz .xz .zst, a
                                                              glob, tfds:NAME, or several separated by commas
                          --config.model.vocab_size=16384
                          --config.phases.phase1.steps=1000
                          --config.precision=float32
  --workdir=DIR         where the run lives; default runs/<config.name>
  --help                this text;  --help=config: every key with its meaning, default and limits

Several processes (a TPU pod, GPUs on several machines): the same command on each of them, on a workdir and a corpus
that all see. They find each other under TPU VMs, SLURM, Open MPI and Kubernetes JobSets (see launch/); else by

  --coordinator=HOST:PORT    where process 0 listens (PORT + 1 is used too)
  --num_processes=N  --process_id=I    how many there are, and which this is, from 0
  --bind=ADDRESS             address of process 0's machine to listen at; default: that of --coordinator

They know each other by a private file in the workdir, or by BERTJAX_CLUSTER_SECRET where a file cannot be private.

Exit codes: 0 done; 2 usage, config or workdir; 3 corpus; 4 the run diverged; 71 another process was lost or
stalled - the same command goes on from the last checkpoint; 75 stopped by a signal with everything saved - the
same command goes on."""


# What tells a process of the others; see ``find_cluster``.
CLUSTER_OPTIONS = {
    "coordinator": (None, "HOST:PORT of process 0"),
    "num_processes": (None, "number of processes"),
    "process_id": (None, "number of this process, from 0"),
    "bind": (None, "address at which process 0 listens"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or "--help" in argv or "-h" in argv:
        return show_help(HELP, asked=bool(argv))
    if "--help=config" in argv:
        return show_help(config_help(RunConfig), asked=True)
    try:
        config, chosen = parse("bertjax.train", argv, {"workdir": (None, "folder of the run")} | CLUSTER_OPTIONS)
        cluster = chosen_cluster(chosen)
    except (FlagError, ConfigError) as error:
        return fail(error, USAGE)
    workdir = f"runs/{config.get('name', 'run')}" if chosen["workdir"] is None else chosen["workdir"]
    settings: dict[str, Any] = {"cluster": cluster, "bind": chosen["bind"], "on_stall": end_stalled}
    return run_in_cluster(cluster, lambda stop: run(config, workdir, should_stop=stop, **settings))


def chosen_cluster(chosen: dict[str, Any]) -> Cluster | None:
    """The processes that the values of ``CLUSTER_OPTIONS``, or the environment, speak of. Raises FlagError,
    ConfigError."""
    count, index = (_whole_number(name, chosen[name]) for name in ("num_processes", "process_id"))
    return find_cluster(chosen["coordinator"], count, index)


def run_in_cluster(cluster: Cluster | None, job: Callable[[StopRequest], object]) -> int:
    """The exit code of a job, which signals ask to stop; one of several processes ends here.

    Nobody has to watch: what cannot be printed any more is lost, and the job goes on.
    """
    with ready(), lasting("stdout"), StopRequest() as stop:
        return guarded(lambda: job(stop)) if cluster is None else _one_of_many(cluster, lambda: job(stop))


def _one_of_many(cluster: Cluster, job: Callable[[], object]) -> NoReturn:
    """Runs the job of one process of several, and ends the process: nothing of jax may wait for the others then."""
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
        raise FlagError(f"--{name} must be a whole number, not {text[:40]!r}")
    return number


class StopRequest:
    """SIGTERM, SIGINT and SIGHUP: the first asks the run to save and stop, a second leaves at once.

    A hang-up is never that second: when a terminal closes, shell and kernel each send one, and service managers send
    one after their SIGTERM.
    """

    def __init__(self) -> None:
        self._asked = False
        self._insisting = False  # whether a signal other than a hang-up has asked
        self._running = False

    def __enter__(self) -> StopRequest:
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

    def _on_signal(self, number: int, frame: Any) -> None:
        # Before the first step is done there is nothing to save; and whoever asks twice does not want to wait.
        if not self._running or (self._insisting and number != signal.SIGHUP):
            os._exit(STOPPED)
        self._asked = True
        self._insisting = self._insisting or number != signal.SIGHUP


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


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("train")
