"""No space, files that may not grow, and folders that may not be written to: the last step stays whole."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import condition
from comparison import differences
from condition import Condition, Ended
from result import Result
from runs import Run
from whole import copy, digests, whole

BAR = "one line and a non-zero exit code, the last step whole, nothing grows; goes on once there is space"
STEP = 15
DISK_BYTES = 64 * 2**20
# What the disk has left when the run begins: from nothing to more than a save needs.
LEFT = (0, 4_000, 20_000, 60_000, 120_000, 200_000, 400_000)
# Most bytes of a file: under and over what the largest file of a checkpoint has.
MOST = (40_000, 60_000, 90_000, 120_000, 250_000)
TIMES = 2
# A start takes a few seconds; one that has failed must end, too.
LIMIT_SECONDS = 60.0

# From a seed and the result, whose figures it may add to, to what was wrong.
Case = Callable[[int, Result], list[str]]


def disk(count: int, seed: int) -> Result:
    """``count`` rounds over all cases."""
    result = Result("disk", BAR)
    for number in range(seed, seed + count):
        for case in CASES:
            _try(result, case, number)
    return result


def tried(cases: list[Case], seed: int) -> Result:
    """Some of the cases, once."""
    result = Result("disk", BAR)
    for case in cases:
        _try(result, case, seed)
    return result


def _try(result: Result, case: Case, seed: int) -> None:
    if case in ON_SMALL_DISK and not can_mount():
        result.figures["small disk"] = "not tried: nothing may be mounted here"
        return
    wrong = case(seed, result)
    result.tried += 1
    if wrong:
        again = f"python tests/faults/catalogue.py --only disk --seed {seed} --count 1"
        result.failures += [f"{line}  [{again}]" for line in wrong]


def full_disk(left: int, seed: int, result: Result) -> list[str]:
    """So many bytes and up to a half more are free when the run begins, and nobody says so."""
    with small_disk() as place:
        run = copy("full", STEP, place / "run")
        ballast = place / "ballast"
        bound = int(left * random.Random(seed).uniform(1.0, 1.5))
        fill(ballast, bound)
        return _survives(f"{bound:,} bytes left", run, condition.hidden_limit, ballast.unlink, result)


def told_full(seed: int, result: Result) -> list[str]:
    """The disk is full and says so: the save is not even begun."""
    with small_disk() as place:
        run = copy("full", STEP, place / "run")
        ballast = place / "ballast"
        fill(ballast, 2**20)
        return _survives("no space, and known", run, None, ballast.unlink, result, words=("space", "step 18"))


def limited(most: int, seed: int, result: Result) -> list[str]:
    """No file may be over ``most`` bytes."""
    run = copy("limited", STEP)
    bound = int(most * random.Random(seed).uniform(0.9, 1.1))
    wrong = _survives(f"files of {bound:,} bytes", run, functools.partial(condition.small_files, bound), None, result)
    if not wrong:
        shutil.rmtree(run.folder)
    return wrong


def read_only(name: str, seed: int, result: Result) -> list[str]:
    """A folder of the workdir in which nothing may be made."""
    run = copy("read-only", STEP)
    place = run.workdir / name
    place.chmod(0o555)
    words = ("cannot write to workdir",) if name == "." else (str(place),)
    try:
        what = f"read-only {place.relative_to(run.folder)}"
        return _survives(what, run, condition.as_ordinary_user, lambda: place.chmod(0o755), result, words)
    finally:
        place.chmod(0o755)


def read_only_disk(seed: int, result: Result) -> list[str]:
    """A disk that has been made read-only, as Linux makes one that fails."""
    with small_disk() as place:
        run = copy("read-only", STEP, place / "run")
        again = lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)
        again("ro")
        return _survives("read-only disk", run, None, lambda: again("rw"), result, ("cannot write to workdir",))


def _survives(
    what: str,
    run: Run,
    trouble: Condition | None,
    make_room: Callable[[], object] | None,
    result: Result,
    words: tuple[str, ...] = (),
) -> list[str]:
    """Starts the run several times in trouble, then without, and says what was wrong."""
    last, left, wrong = run.workdir / "checkpoints" / str(STEP), [], []
    before = digests(last)
    for _ in range(TIMES):
        ended = condition.end(run, trouble, seconds=LIMIT_SECONDS)
        wrong += _complaints(ended, words)
        if "Traceback" in ended.text:
            wrong.append("a traceback")
        if ended.code in (0, None):
            break
        left.append(_unfinished(run.workdir))
        if digests(last) != before:
            wrong.append(f"step {STEP} is no longer whole")
    _count(result, f"ended with {ended.code}")
    if any(number > 1 for counted in left for number in counted.values()):
        wrong.append(f"unfinished files and folders heap up: {left}")
    if make_room:
        make_room()
    after = condition.end(run)
    wrong += [] if after.code == 0 else [f"with space again it ended with {after.code}: {after.last()}"]
    wrong += [] if wrong else differences(run, whole())
    return [f"{what}: {line}" for line in dict.fromkeys(wrong)]


def _complaints(ended: Ended, words: tuple[str, ...]) -> list[str]:
    if ended.code == 0 and not words:  # there was space enough
        return []
    return ended.refused(ended.code if ended.code in (2, 3) else 3, *words)


def _unfinished(workdir: Path) -> Counter[str]:
    """Kinds of files and folders that a start has left without their final names, and how many there are of each."""
    left = [child.name for child in (workdir / "checkpoints").iterdir() if not child.name.isdigit()]
    left += [child.name for child in workdir.glob("*tmp*")]
    return Counter(re.sub(r"^\d+", "N", name) for name in left)


def _count(result: Result, figure: str) -> None:
    result.figures[figure] = str(int(result.figures.get(figure, 0)) + 1)


def fill(path: Path, left: int) -> None:
    """Writes a file that leaves so many bytes of its disk, rounded down to whole blocks."""
    with path.open("wb") as file:
        free = shutil.disk_usage(path.parent).free
        file.write(bytes(max(0, free - left)))


@functools.cache
def can_mount() -> bool:
    try:
        with small_disk():
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    """A disk of its own, in memory."""
    import scene

    place = scene.new_folder("disk")
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", str(place)]
    subprocess.run(["mount", *options], check=True, capture_output=True)
    try:
        yield place
    finally:
        os.sync()
        subprocess.run(["umount", "-l", str(place)], check=True)
        place.rmdir()


def _named(name: str, function: Callable[..., list[str]], *arguments: object) -> Case:
    case = functools.partial(function, *arguments)
    case.__name__ = name
    return case


_FULL = [_named(f"full-{left}", full_disk, left) for left in LEFT]
ON_SMALL_DISK: list[Case] = [*_FULL, told_full, read_only_disk]
CASES: list[Case] = [
    *ON_SMALL_DISK,
    *(_named(f"limited-{most}", limited, most) for most in MOST),
    _named("read-only-workdir", read_only, "."),
    _named("read-only-checkpoints", read_only, "checkpoints"),
]
SHORT = [case for case in CASES if case.__name__ in ("full-60000", "told_full", "limited-60000", "read-only-workdir")]
FAULTS = {"disk": disk}
