"""An error in the thread that reads batches ahead: it surfaces, the process ends, and the next start goes on."""

from __future__ import annotations

import errno
import functools
import random
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import condition
from comparison import differences
from result import Result
from whole import copy, whole

BAR = "the error surfaces and the process ends within 5 s, nothing of it in shared memory; the next start goes on"
STEP = 3
LIMIT_SECONDS = 5.0
# What goes wrong in the thread, and the word by which the user is to learn of it.
TROUBLES = {
    "input/output error": "Input/output error",
    "a wrong number": "not a number of this corpus",
    "no memory": "MemoryError",
    "memory really used up": "MemoryError",
    "file cut under the map": "was shortened while it was in use",
}


def reader(count: int, seed: int) -> Result:
    """``count`` errors at batches that the seed draws."""
    result, seconds = Result("reader", BAR), []
    for number in range(seed, seed + count):
        wrong = _tried(number, seconds)
        result.tried += 1
        if wrong:
            again = f"python tests/faults/catalogue.py --only reader --seed {number} --count 1"
            result.failures.append(f"{'; '.join(wrong)}  [{again}]")
    if seconds:
        result.figures = {"ended after": f"{min(seconds):.2f} to {max(seconds):.2f} s"}
    return result


def _tried(seed: int, seconds: list[float]) -> list[str]:
    draw, run = random.Random(seed), copy("reader", STEP)
    trouble = list(TROUBLES)[seed % len(TROUBLES)]
    note = run.folder / "raised"
    call = draw.randint(1, 3)
    ended = condition.end(run, functools.partial(troubled, trouble, call, note), seconds=60)
    if not note.exists():
        return [f"{trouble}: there was no reading number {call}; exit code {ended.code}: {ended.last()}"]
    raised, *mapped = note.read_text().split("\n")
    took = ended.at - float(raised)
    seconds.append(took)
    wrong = []
    if ended.code is None:
        wrong.append(f"it hangs: {ended.last()}")
    elif ended.code == 0 or took > LIMIT_SECONDS:
        wrong.append(f"exit code {ended.code} after {took:.1f} s: {ended.last()}")
    if TROUBLES[trouble] not in ended.text:
        wrong.append(f"it does not say {TROUBLES[trouble]!r}: {ended.last()}")
    wrong += [f"in shared memory: {line}" for line in mapped if line]
    after = condition.end(run)
    wrong += [] if after.code == 0 else [f"the next start ended with {after.code}: {after.last()}"]
    wrong = wrong or differences(run, whole())
    if not wrong:
        shutil.rmtree(run.folder)
    return [f"{trouble}: {line}" for line in wrong]


def troubled(trouble: str, call: int, note: Path) -> None:
    """The so-manieth reading of batches goes wrong, and all after it: what that one read may never have been needed.

    The note says when, and what lies in shared memory then.
    """
    from bertjax.data.stream.pipeline import RowStream

    read, calls = RowStream.read, 0

    def failing(self: RowStream, *arguments: Any, **named: Any) -> Any:
        nonlocal calls
        if len(self._phases) < 2:  # a held-out evaluation, which is no reading ahead
            return read(self, *arguments, **named)
        calls += 1
        if calls == call:  # the first time
            shared = [line for line in Path("/proc/self/maps").read_text().split("\n") if "/dev/shm/" in line]
            note.write_text("\n".join([str(time.monotonic()), *shared]))
        if calls >= call:
            _go_wrong(trouble, self)
        return read(self, *arguments, **named)

    RowStream.read = failing


def _go_wrong(trouble: str, stream: Any) -> None:
    if trouble == "input/output error":
        raise OSError(errno.EIO, "Input/output error")
    if trouble == "a wrong number":
        raise ValueError("7 is not a number of this corpus")
    if trouble == "no memory":
        raise MemoryError
    if trouble == "memory really used up":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**20, resource.RLIM_INFINITY))
        bytearray(2**30)
    if trouble == "file cut under the map":
        _cut_under_the_map(stream)


def _cut_under_the_map(stream: Any) -> None:
    """The tokens come from a copy of their file, which then is cut."""
    import dataclasses
    import tempfile

    import numpy as np

    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, np.asarray(stream._corpus.tokens))
        file.flush()
        mapped = np.load(file.name, mmap_mode="r")
        stream._corpus = dataclasses.replace(stream._corpus, tokens=mapped)
        file.truncate(0)


FAULTS = {"reader": reader}
