"""Names in ``workdir/checkpoints``: which are steps, and which are what killed runs leave there."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# As Orbax and we write them. "007" and digits of other scripts are somebody else's names.
_STEP = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
# A step on its way out, and a save that never ended. Anything else in there may be a person's own.
_LEFTOVER = re.compile(r"[0-9]{1,18}(\.deleted|\.orbax-checkpoint-tmp(-[0-9]+)?)", re.ASCII)

# A run never deletes faster than that; a folder that cannot be listed is not one of its steps.
_MOST_ATTEMPTS = 100


def step_number(name: str) -> int | None:
    """The step whose folder has this name, None for any other name."""
    return int(name) if _STEP.fullmatch(name) else None


def step_numbers(folder: Path) -> list[int]:
    """The steps that have a folder in ``folder``, ascending; empty if that is not a folder. Raises OSError."""
    if not folder.is_dir():
        return []
    # The listing itself says what is a folder: asked afterwards, a step that is renamed meanwhile would be none.
    with os.scandir(folder) as children:
        numbers = [step_number(child.name) for child in children if child.is_dir()]
    return sorted(number for number in numbers if number is not None)


def leftovers(folder: Path) -> list[Path]:
    """What killed runs have left half saved or half deleted in ``folder``."""
    if not folder.is_dir():
        return []
    return [child for child in folder.iterdir() if _LEFTOVER.fullmatch(child.name) and not child.is_symlink()]


def put_aside(folder: Path, damaged: Path) -> Path:
    """Moves a step's folder into the folder ``damaged``, under a name that nothing has there. Raises OSError."""
    damaged.mkdir(exist_ok=True)
    taken = {child.name for child in damaged.iterdir()}
    names = (folder.name, *(f"{folder.name}-{number}" for number in range(2, len(taken) + 3)))
    target = damaged / next(name for name in names if name not in taken)
    folder.rename(target)
    return target


def newest_that_stays(folder: Path, use: Callable[[int], T], errors: tuple[type[Exception], ...]) -> T:
    """``use(step)`` of the newest step in a folder that a run may be saving to and deleting from.

    Where that raises one of ``errors``, and the step's folder is no longer the one that it was, the newest that is
    there now is taken. Raises the error of a step that is still there, or of the last one if none is left.
    """
    if not (steps := _seen_steps(folder)):
        raise errors[0](f"{folder} holds no checkpoint any more")
    attempt = 0
    while True:
        attempt, step = attempt + 1, steps[-1]
        before = _files(folder / str(step))
        try:
            return use(step)
        except errors:
            steps = _seen_steps(folder)
            stays = before is not None and before == _files(folder / str(step))
            if not steps or stays or attempt == _MOST_ATTEMPTS:
                raise


def _seen_steps(folder: Path) -> list[int]:
    """``step_numbers``, listed again where it is empty: a listing may still show the newest save under its temporary
    name and the step before it already under the name that it is deleted under."""
    for _ in range(_MOST_ATTEMPTS):
        if steps := step_numbers(folder):
            return steps
        time.sleep(0.001)
    return []


def _files(folder: Path) -> set[tuple[Path, int, int, int]] | None:
    """All that a folder holds, another file or folder of the same name told apart; None if it is being deleted."""
    try:
        found = [(path, path.lstat()) for path in (folder, *folder.rglob("*"))]
    except OSError:
        return None
    return {(path, one.st_dev, one.st_ino, one.st_ctime_ns) for path, one in found}
