"""A long run that is ended again and again: memory stays flat, no row is lost, little work is done twice."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import scene
from result import Result
from runs import Run

BAR = "memory flat within every start and over all of them, one metrics row a step, nothing left over"
SECONDS = 60.0  # from one restart to the next
# Steps of some 50 ms on one core, and a save every ten seconds.
SETTINGS = {"phases.phase1.batch_size": 256, "phases.phase1.steps": 100_000_000, "checkpoint.every_steps": 200}
# Of what a start holds once it has saved twice, and of what early starts held: room for an allocator's rounding.
MOST_GROWTH = 0.05
LEAST_STARTS = 3
SETTLED_SAVES = 2
STOPPED = 75


def soak(count: int, seed: int, seconds: float = SECONDS) -> Result:
    """One run, started ``count`` times for some ``seconds`` each and ended by SIGKILL and SIGTERM in turns.

    It is the command itself, a new process each time, and as slow to start as it is.
    """
    result, draw, began = Result("soak", BAR), random.Random(seed), time.monotonic()
    run, starts = Run("soak"), []
    for number in range(count):
        ending = signal.SIGTERM if (count - number) % 2 else signal.SIGKILL  # the last one leaves whole lines
        start = Start(run, number)
        code = start.end_after(seconds * draw.uniform(0.8, 1.2), ending)
        starts.append(start)
        result.tried += 1
        if code != (STOPPED if ending == signal.SIGTERM else -ending):
            result.failures.append(
                f"start {number} was to end by signal {ending} and ended with {code}: {start.said()}"
            )
            break
    else:
        rows, followed = run.rows(), sum(start.halves() is not None for start in starts)
        if seconds >= SECONDS and followed < count / 2:
            result.failures.append(f"only {followed} of {count} starts worked long enough to follow their memory")
        result.failures += [
            *(line for start in starts for line in start.growth()),
            *_growth(starts),
            *_wrong(run, rows),
        ]
        result.figures = _figures(starts, rows, time.monotonic() - began) | {"memory followed in": f"{followed} starts"}
    shutil.rmtree(run.folder)
    return result


class Start:
    """One start of the run: what it held in memory, from where it went on and how far it came."""

    def __init__(self, run: Run, number: int):
        self._number, self._log, self._rows = number, run.folder / f"log{number}", run.workdir / "metrics.jsonl"
        self._checkpoints = run.workdir / "checkpoints"
        self.memory: list[float] = []
        self._saved: list[int] = []  # the newest step on disk when the memory was read
        self.last_step = 0
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=1"
        environ = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        environ |= {"BERTJAX_CACHE": str(scene.folder() / "cache")}
        environ |= {"JAX_COMPILATION_CACHE_DIR": str(scene.compiled()), "PYTHONPATH": str(scene.ROOT)}
        environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0"}
        command = [sys.executable, "-m", "bertjax.train", f"--config={scene.config_file()}", f"--workdir={run.workdir}"]
        command += [f"--config.{key}={value}" for key, value in SETTINGS.items()]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, env=environ, cwd=scene.ROOT, stdout=log, stderr=log)

    def end_after(self, seconds: float, ending: int) -> int | None:
        """Lets the run work for so long after its first step, then sends the signal; its exit code."""
        try:
            while self._process.poll() is None and not re.search(r"step +\d+/", self._log.read_text()):
                time.sleep(0.1)
            end = time.monotonic() + seconds
            while self._process.poll() is None and time.monotonic() < end:
                self.memory.append(_resident(self._process.pid))
                self._saved.append(
                    max((int(p.name) for p in self._checkpoints.glob("*") if p.name.isdigit()), default=0)
                )
                time.sleep(seconds / 50)
            self._process.send_signal(ending)
            self._process.wait(60)
        finally:
            self._process.kill()
            code = self._process.wait()
        if self._rows.exists():
            whole = self._rows.read_text().rpartition("\n")[0].split("\n")
            self.last_step = json.loads(whole[-1])["step"]
        return code

    def said(self) -> str:
        """The last lines that it has printed."""
        return " / ".join(self._log.read_text(errors="replace").strip().split("\n")[-4:])

    def halves(self) -> tuple[float, float] | None:
        """The most megabytes that it held in each half of its time from when it had compiled everything and saved
        twice; None where it ended soon after. A save holds a copy of the state for a while, so single readings differ:
        each half has several saves."""
        saves = [index for index, (a, b) in enumerate(itertools.pairwise(self._saved), 1) if a != b]
        settled = self.memory[saves[SETTLED_SAVES - 1] :] if len(saves) >= SETTLED_SAVES else []
        if len(saves) < 2 * SETTLED_SAVES or len(settled) < 10:
            return None
        middle = len(settled) // 2
        return max(settled[:middle]), max(settled[middle:])

    def held(self) -> float:
        """Megabytes that it held in the end: the least of the last readings, as a save holds a copy for a while."""
        return min(self.memory[-10:])

    def growth(self) -> list[str]:
        """A complaint where it held more in the second half than in the first."""
        halves = self.halves()
        if halves is None or halves[1] <= halves[0] * (1 + MOST_GROWTH):
            return []
        return [f"start {self._number} grew from {halves[0]:.0f} to {halves[1]:.0f} MB"]


def _resident(process: int) -> float:
    """Megabytes of a process that are in memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _growth(starts: list[Start]) -> list[str]:
    """A complaint where late starts hold more than early ones. The very first has compiled and prepared, too.

    Starts of one run differ by up to 12 % (401 - 452 MB seen), so it takes three of each to compare them.
    """
    half = len(starts) // 2
    if half < LEAST_STARTS:
        return []
    early, late = (max(start.held() for start in part) for part in (starts[:half], starts[half:]))
    return [] if late <= early * (1 + MOST_GROWTH) else [f"starts grew from {early:.0f} to {late:.0f} MB"]


def _wrong(run: Run, rows: list[dict]) -> list[str]:
    """What is wrong with the rows, and what lies in the workdir that should not."""
    steps = [row["step"] for row in rows if row["kind"] == "train"]
    wrong = [] if steps == list(range(1, len(steps) + 1)) else [f"{len(steps)} rows for {max(steps)} steps"]
    folders = [path.name for path in (run.workdir / "checkpoints").iterdir()]
    if len(folders) > 2 or not all(name.isdigit() for name in folders):
        wrong.append(f"checkpoints holds {', '.join(sorted(folders))}")
    left = [str(path.relative_to(run.workdir)) for path in run.workdir.rglob("*tmp*")]
    return wrong + ([f"left over: {', '.join(left)}"] if left else [])


def _figures(starts: list[Start], rows: list[dict], wall: float) -> dict[str, str]:
    """Goodput: the share of the whole time that the steps of the run took, at their median pace."""
    train = [row for row in rows if row["kind"] == "train"]
    paces = [b["seconds"] - a["seconds"] for a, b in itertools.pairwise(train)]
    resumed = [row["step"] for row in rows if row["kind"] == "event" and row.get("event") == "resumed"]
    before = [start.last_step for start in starts[:-1]]
    redone = sum(max(0, last - first) for last, first in zip(before, resumed, strict=False))
    return {
        "restarts": str(len(starts) - 1),
        "steps": f"{len(train)}",
        "done twice": f"{redone}",
        "goodput": f"{len(train) * statistics.median(paces) / wall:.1%} of {wall:.0f} s",
        "megabytes": f"{starts[0].held():.0f} in the first start, {starts[-1].held():.0f} in the last",
    }


FAULTS = {"soak": soak}
