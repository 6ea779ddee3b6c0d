"""metrics.jsonl and TensorBoard: one row a step, also across restarts."""

import contextlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from bertjax import unfinished
from bertjax.errors import WorkdirGone

# A longer line is not a row, and is read in pieces.
_LONGEST = 1 << 24


class NoLog:
    """For a process that does not write the log: every method of MetricsLog, doing nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


class MetricsLog:
    """Appends rows to workdir/metrics.jsonl and their numbers to workdir/tensorboard."""

    def __init__(
        self,
        workdir: Path,
        from_step: int,
        tensorboard: bool,
        say: Callable[[str], None] = lambda line: None,
        evaluated: bool = True,
    ):
        """Rows of steps after ``from_step``, which a resumed run is about to make again, are taken out first; so is the
        evaluation of that step itself where it is not ``evaluated``."""
        self._path, self._say = workdir / "metrics.jsonl", say
        self._folder = os.open(workdir, os.O_RDONLY | os.O_DIRECTORY)  # kept open: its name may become another's
        self._events = None
        if tensorboard:
            # Only now: tensorboardX imports torch where that is installed, which takes seconds.
            from bertjax.engine.event_files import EventFiles

            self._events = EventFiles(workdir / "tensorboard", from_step)
        keep_rows_up_to(self._path, from_step, evaluated)
        self._open()

    def rewind(self, step: int) -> None:
        """Takes out the rows of all steps after ``step``, which are about to be made anew."""
        self._file.close()
        self._check_folder()
        keep_rows_up_to(self._path, step)
        self._open()
        if self._events is not None:
            self._events.rewind(step)

    def write(self, row: dict[str, Any]) -> None:
        """One JSON line; numbers that are not finite become null, which JSON has and NaN it has not. Raises WorkdirGone
        if the workdir is gone; a file that somebody else removed or shortened is gone on with, and that is said."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._check()
        line = (json.dumps(clean) + "\n").encode()
        self._file.write(line)
        self._file.flush()
        self._size += len(line)
        if self._events is not None:
            is_number = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
            values = {name: value for name, value in clean.items() if is_number(value) and name != "step"}
            self._events.write(row["kind"], row["step"], values)
            if warning := self._events.warning():
                self._say(warning)

    def sync(self) -> None:
        """Brings the rows to the disk; a bucket mounted as a folder has nothing of a file before that."""
        self._check()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        is_gone = True
        with contextlib.suppress(OSError):
            is_gone = self._is_gone()
        os.close(self._folder)
        if self._events is not None:
            self._events.close(is_gone)
            if warning := self._events.warning():
                self._say(warning)

    def _open(self) -> None:
        self._check_folder()
        self._file: BinaryIO = self._path.open("a+b")
        self._size = self._file.seek(0, os.SEEK_END)
        if self._size:
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":  # the last row is torn
                self._file.write(b"\n")
                self._file.flush()
                self._size += 1

    def _check(self) -> None:
        """The file is opened again where its name is that of another one, or of none."""
        here = os.fstat(self._file.fileno())
        try:
            there = self._path.stat()
        except OSError:
            there = None
        if there is not None and os.path.samestat(here, there) and here.st_size >= self._size:
            return
        is_shorter = there is not None and there.st_size < self._size
        self._file.close()
        self._open()
        if there is None or is_shorter:  # of another one that is as long: somebody's copy of it
            what = "removed" if there is None else "shortened"
            self._say(f"warning: {self._path} was {what} while the run wrote to it; rows from here on are added to it")

    def _check_folder(self) -> None:
        if self._is_gone():
            raise WorkdirGone(self._path.parent)

    def _is_gone(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return not os.path.samestat(os.fstat(self._folder), self._path.parent.stat())
        return True


def keep_rows_up_to(path: Path, step: int, evaluated: bool = True) -> None:
    """Takes the rows of later steps out of a metrics.jsonl, and a last line that was never finished. A line that is
    not a row stays. evaluated: whether an evaluation of ``step`` itself stays. Takes the memory of a
    line."""
    if not path.exists():
        return
    with path.open("rb") as old, unfinished.whole_file(path) as new:
        while line := old.readline(_LONGEST):
            row = _row_of(line)
            is_torn = row is None and not line.endswith(b"\n") and len(line) < _LONGEST
            is_old = row is None or row["step"] < step + (evaluated or row.get("kind") != "eval")
            if not is_torn and is_old:
                new.write(line)


def _row_of(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None
