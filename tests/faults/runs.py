"""Runs of ``bertjax.train`` in processes of their own, started again and again on one workdir."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scene

if TYPE_CHECKING:
    from points import Point

LIMIT_SECONDS = 300.0  # after which a process counts as hanging


def _train(plan: dict[str, Any]) -> None:
    import child  # in the forked process, where it is loaded already; never in this one

    child.train(child.Plan(**plan))


_context = multiprocessing.get_context("forkserver")


def _prepare() -> None:
    """The process that all others are forked from loads jax and bertjax once, and starts nothing."""
    for folder in (str(scene.ROOT), str(Path(__file__).parent)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    # Until it has sys.path from here, which comes after loading, this is all that it can find them by.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(scene.ROOT), before or ""]).strip(":")
    try:
        _context.set_forkserver_preload(["child"])
        multiprocessing.forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


@dataclass
class Start:
    """One start of a run, by one or more processes."""

    processes: list[Any]
    logs: list[Path]

    def wait(self, seconds: float = LIMIT_SECONDS) -> list[int | None]:
        """Exit codes, minus the number of the signal for those that a signal ended; None for one that hangs."""
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        self.kill()
        return codes

    def kill(self) -> None:
        for process in self.processes:
            if process.exitcode is None:
                process.kill()
                process.join()

    def running(self) -> bool:
        return all(process.exitcode is None for process in self.processes)

    def said(self) -> str:
        """The last that the processes have printed, in one line."""
        ends = [" / ".join(log.read_text(errors="replace").strip().split("\n")[-3:]) for log in self.logs]
        return " || ".join(ends)[-600:]


@dataclass
class Run:
    """A workdir, and how the runs on it are started."""

    name: str
    precision: str = "float32"
    count: int = 1
    devices: int = 1
    overrides: tuple[str, ...] = ()
    folder: Path = field(init=False)
    starts: int = 0
    port: int = 0  # of the coordinator of the last start, where there are several processes

    def __post_init__(self) -> None:
        self.folder = scene.new_folder(self.name)
        self.workdir = self.folder / "run"

    def start(
        self,
        point: Point | None = None,
        *,
        stop_at: int = 0,
        compiled: Path | None = None,
        killed: int = 0,
        step_seconds: float = 0.0,
        setbacks: tuple[Any, ...] = (),
    ) -> Start:
        """Starts the run, or goes on with it; of several processes number ``killed`` gets the point.

        compiled: where compiled programs are kept; a new folder has every program compiled again. step_seconds: that
        every step takes longer. setbacks: where it rolls back, past checkpoints that the first process damages.
        """
        _prepare()
        self.starts += 1
        arguments = [f"--config={scene.config_file()}", f"--workdir={self.workdir}", *self.overrides]
        arguments += [f"--config.precision={self.precision}"]
        if self.count > 1:
            self.port = _free_port()
            arguments += [f"--coordinator=127.0.0.1:{self.port}", f"--num_processes={self.count}"]
        processes, logs = [], []
        for index in range(self.count):
            logs.append(self.folder / f"log{index}.{self.starts}")
            plan = {
                "arguments": tuple(arguments + ([f"--process_id={index}"] if self.count > 1 else [])),
                "workdir": self.workdir,
                "trace": self.folder / f"trace{index}",
                "log": logs[-1],
                "cache": scene.folder() / "cache",
                "compiled": compiled or scene.compiled(),
                "core": scene.cores()[index % len(scene.cores())],
                "devices": self.devices,
                "point": point if index == killed else None,
                "stop_at": stop_at,
                "step_seconds": step_seconds,
                "setbacks": setbacks,
                "harming": index == 0,
            }
            logs[-1].touch()
            processes.append(_context.Process(target=_train, args=(plan,), daemon=True))
            processes[-1].start()
        return Start(processes, logs)

    def trace(self, index: int = 0) -> list[dict[str, Any]]:
        """What process ``index`` has written down, over all starts; a line it is just writing is not there yet."""
        path = self.folder / f"trace{index}"
        return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []

    def wait_for(
        self, start: Start, seen: Callable[[list[dict[str, Any]]], bool], index: int = 0, seconds: float = 120
    ) -> bool:
        """Until ``seen`` of the trace of process ``index``; False where the processes end or the time does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            running = start.running()
            if seen(self.trace(index)):
                return True
            if not running:
                return False
            time.sleep(0.002)
        return False

    def batches(self) -> dict[int, dict[str, set[str]]]:
        """{update: {row of the global batch: hashes that were ever made of it}}, over all processes and starts."""
        found: dict[int, dict[str, set[str]]] = {}
        for index in range(self.count):
            step = 0
            for line in self.trace(index):
                if line["what"] == "at":
                    step = line["step"]
                elif line["what"] == "batch":
                    for row, digest in line["rows"].items():
                        found.setdefault(step, {}).setdefault(row, set()).add(digest)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        path = self.workdir / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().split("\n") if line] if path.exists() else []

    def arrays(self) -> dict[str, Any]:
        """Shape, dtype and checksum of every array in the newest checkpoint: parameters, moments, step, loss scale."""
        newest = max((int(p.name) for p in self.workdir.glob("checkpoints/*") if p.name.isdigit()), default=None)
        if newest is None:
            return {}
        record = json.loads((self.workdir / "checkpoints" / str(newest) / "record" / "metadata").read_text())
        return {"step of the checkpoint": newest} | record["arrays"]


def _free_port() -> int:
    """A port that is free, and the one after it: not of those that the system gives to whoever connects."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000, 2)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 1))
            return port
