"""The harm that can come to a file of a checkpoint."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Trial(NamedTuple):
    """file: the one to harm; None: one that the seed chooses."""

    kind: str
    seed: int
    file: str | None = None


def files(folder: Path) -> list[str]:
    """The files below a folder, relative to it, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def folders(folder: Path) -> list[str]:
    """The folders below a folder, and itself, relative to it, sorted."""
    return [".", *sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_dir())]


def flip(path: Path, draw: random.Random) -> str:
    """Flips one bit."""
    content = bytearray(path.read_bytes())
    if not content:  # there is no bit to flip
        path.write_bytes(b"\0")
        return "a byte added"
    place, bit = draw.randrange(len(content)), draw.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} flipped"


def truncate(path: Path, draw: random.Random) -> str:
    """Cuts off the end; the file gets shorter by one byte at least."""
    size = path.stat().st_size
    if not size:
        path.unlink()
        return "empty as it was, removed"
    left = draw.randrange(size)
    with path.open("r+b") as file:
        file.truncate(left)
    return f"cut from {size} to {left} bytes"


def missing(path: Path, draw: random.Random) -> str:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return "missing"


def empty(path: Path, draw: random.Random) -> str:
    if path.is_dir():
        shutil.rmtree(path)
        path.mkdir()
    else:
        path.write_bytes(b"")
    return "empty"


def unreadable(path: Path, draw: random.Random) -> str:
    path.chmod(0)
    return "unreadable"


def zeroed(path: Path, draw: random.Random) -> str:
    """What a crash of the machine leaves of a file that had its size, but not yet its content, on the disk."""
    path.write_bytes(bytes(path.stat().st_size))
    return "zeroed"


def stale(path: Path, draw: random.Random) -> str:
    """The file of the step before in its place, where that has one, as an interrupted copy leaves it."""
    step = next(parent for parent in path.parents if parent.name.isdigit())
    steps = sorted(int(child.name) for child in step.parent.iterdir())
    before = step.parent / str(steps[-2]) / path.relative_to(step)
    if not before.is_file():
        return missing(path, draw)
    shutil.copy(before, path)
    return f"that of step {steps[-2]}"


HARMS: dict[str, Callable[[Path, random.Random], str]] = {
    "flip": flip,
    "truncate": truncate,
    "missing": missing,
    "empty": empty,
    "unreadable": unreadable,
    "zeroed": zeroed,
    "stale": stale,
}


def harm(step: Path, trial: Trial) -> str:
    """Harms one file of a checkpoint; says what was done."""
    kind, seed, name = trial
    draw = random.Random(seed)
    if name is None:
        names = files(step)
        # By turns every file and every byte has the same chance: most bytes are in the arrays, most files are small.
        weights = None if draw.random() < 0.5 else [(step / name).stat().st_size for name in names]
        (name,) = draw.choices(names, weights)
    return f"{name}: {HARMS[kind](step / name, draw)}"
