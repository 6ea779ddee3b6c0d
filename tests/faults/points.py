"""Marked points of a run at which its process kills itself: no hook in the package, only what Python lets one see."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Point:
    """A moment of a run; what the numbers stand for depends on the kind.

    batch, step: ``number`` is the update: once its batch is there; ``part`` ms after its step began
    files: step ``number`` is being saved and its folder holds ``part`` files; at the latest just before it is committed
    before commit, after commit: around the renaming that makes step ``number`` a checkpoint
    delete: before file number ``number`` of the files of old steps is deleted
    restore: ``number`` ms after restoring began, at the latest when it is done
    phase: where one phase ends and the next begins, at ``PLACES[number]``
    rename: before file or folder number ``number`` gets its final name, wherever in the workdir
    """

    kind: str
    number: int
    part: int = 0


KINDS = ("batch", "step", "files", "before commit", "after commit", "delete", "restore", "phase", "rename")
PLACES = ("before", "after", "making a batch", "compiling")


def kill() -> None:
    """Ends this process as any SIGKILL does, from any thread."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal is on its way, and nothing more may be done


class Killer:
    """Kills this process at a point. The child tells it where the run stands; what is done to files it sees itself."""

    def __init__(self, point: Point, workdir: Path):
        self._point, self._kind, self._seen, self._in_later_phase = point, point.kind, 0, False
        self._workdir, self._checkpoints = f"{workdir}/", f"{workdir}/checkpoints"
        watched = {
            "files": self._rename_of_step,
            "before commit": self._rename_of_step,
            "rename": self._rename_in_workdir,
            "delete": self._removal,
        }
        if self._kind in watched:
            sys.addaudithook(watched[self._kind])  # called before anything is done to a file
        if self._kind == "files":
            _in_background(self._count_files)
        if self._kind == "after commit":
            self._follow_renames()

    # --- Where the run stands ---------------------------------------------------------------------------------------

    def at(self, stage: str, step: int) -> None:
        """The run has come to a stage of update ``step``."""
        if stage == "in the step" and step == self._point.number:
            if self._kind == "batch":
                kill()
            if self._kind == "step":
                _kill_in(0.001 * self._point.part)
        self.phase(stage, 0)

    def phase(self, place: str, index: int) -> None:
        """The run has come to a place of the boundary of phases; ``index`` of the phase where it is one that begins."""
        self._in_later_phase |= index > 0
        if self._kind == "phase" and self._in_later_phase and place == PLACES[self._point.number]:
            kill()

    def restoring(self, done: bool) -> None:
        """A state is about to be restored, or has been."""
        if self._kind == "restore":
            kill() if done else _kill_in(0.001 * self._point.number)

    # --- What is done to files --------------------------------------------------------------------------------------

    def _rename_of_step(self, event: str, arguments: tuple) -> None:
        if event == "os.rename" and self._commits(arguments[1]):
            kill()

    def _rename_in_workdir(self, event: str, arguments: tuple) -> None:
        if event == "os.rename" and os.fspath(arguments[1]).startswith(self._workdir):
            self._count()

    def _removal(self, event: str, arguments: tuple) -> None:
        if event in ("os.remove", "os.rmdir"):
            path, folder = os.fspath(arguments[0]), arguments[1]
            if folder >= 0:
                path = f"{Path(f'/proc/self/fd/{folder}').readlink()}/{path}"
            if path.startswith(self._checkpoints + "/"):
                self._count()

    def _count(self) -> None:
        self._seen += 1
        if self._seen == self._point.number:
            kill()

    def _commits(self, target: str | os.PathLike) -> bool:
        return os.fspath(target) == f"{self._checkpoints}/{self._point.number}"

    def _follow_renames(self) -> None:
        rename = os.rename

        def renamed(source, target, **rest):
            rename(source, target, **rest)
            if self._commits(target):
                kill()

        os.rename = renamed

    def _count_files(self) -> None:
        begins = f"{self._point.number}."  # Orbax's name for a step that is being written; 3 is not 30
        while True:
            time.sleep(0.0002)
            for place in Path(self._checkpoints).glob(begins + "*"):
                if sum(len(files) for _, _, files in os.walk(place)) >= self._point.part:
                    kill()


def _in_background(job: Callable[[], None]) -> None:
    threading.Thread(target=job, daemon=True).start()


def _kill_in(seconds: float) -> None:
    _in_background(lambda: (time.sleep(seconds), kill()))
