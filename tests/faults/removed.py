"""A workdir, or a part of it, removed, moved or cut under a running job."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import condition
from owners import slow_steps
from result import Result
from whole import copy, whole

BAR = (
    "without its workdir the run ends with code 3, one line, and writes nothing where it was; without a part it goes on"
)
STEP = 15
HARMS: dict[str, Callable[[Path], object]] = {
    "workdir moved": lambda workdir: workdir.rename(workdir.with_name("moved")),
    "workdir removed": shutil.rmtree,
    "another folder in its place": lambda workdir: (workdir.rename(workdir.with_name("moved")), workdir.mkdir()),
    "lock removed": lambda workdir: (workdir / ".lock").unlink(),
    "log removed": lambda workdir: (workdir / "metrics.jsonl").unlink(),
    "log cut": lambda workdir: os.truncate(workdir / "metrics.jsonl", 100),
    "older step removed": lambda workdir: shutil.rmtree(workdir / "checkpoints" / "9"),
    "tokenizer removed": lambda workdir: shutil.rmtree(workdir / "tokenizer"),
}
ENDS = {"workdir moved", "workdir removed", "another folder in its place"}


def removed(count: int, seed: int) -> Result:
    """``count`` runs, each with the next of the harms."""
    result = Result("removed", BAR)
    for number in range(seed, seed + count):
        name = list(HARMS)[number % len(HARMS)]
        wrong = _tried(name)
        result.tried += 1
        if wrong:
            again = f"python tests/faults/catalogue.py --only removed --seed {number} --count 1"
            result.failures.append(f"{name}: {'; '.join(wrong)}  [{again}]")
    return result


def _tried(name: str) -> list[str]:
    run = copy("removed", STEP)
    before = len(run.trace())
    start = condition.start(run, functools.partial(slow_steps, 0.3))
    if not run.wait_for(start, lambda trace: any(line["what"] == "done" for line in trace[before:])):
        return [f"it did not start: {start.said()}"]
    HARMS[name](run.workdir)
    (code,) = start.wait(120)
    ended = condition.Ended(code, start.logs[0].read_text(errors="replace"), 0.0)
    if name in ENDS:
        wrong = ended.refused(3, "was removed or moved while the run was in it")
        left = [path.name for path in run.workdir.iterdir()] if run.workdir.exists() else []
        wrong += [f"it has written {', '.join(left)} where the workdir was"] if left else []
    else:
        wrong = [] if code == 0 else [f"exit code {code}: {ended.last()}"]
        wrong = wrong or ([] if run.arrays() == whole().arrays() else ["it is another run"])
    if not wrong:
        shutil.rmtree(run.folder)
    return wrong


FAULTS = {"removed": removed}
