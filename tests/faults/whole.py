"""The run that nothing happens to, with all of its checkpoints, and copies of it as it was at an earlier step."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import shutil
from pathlib import Path

import scene
from runs import Run
from scene import SAVES

# All checkpoints are kept, so that a copy can be of any step. How many are kept is no part of what a run is.
OVERRIDES = ("--config.checkpoint.keep=100",)


@functools.cache
def whole() -> Run:
    """The undisturbed run, made once by all processes that share the scene's folder. Not to be written to."""
    run, note = Run("whole", overrides=OVERRIDES), scene.folder() / f"whole-{_version()}"
    with note.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if note.exists():
            run.folder.rmdir()
            run.folder = Path(note.read_text())
            run.workdir = run.folder / "run"
            return run
        start = run.start()
        if (codes := start.wait()) != [0]:
            raise RuntimeError(f"the undisturbed run ended with {codes}: {start.said()}")
        note.write_text(str(run.folder))
    return run


def copy(name: str, step: int, workdir: Path | None = None) -> Run:
    """A run that stands where the whole one stood when it had saved ``step``, in a workdir of its own."""
    run = Run(name, overrides=OVERRIDES)
    run.workdir = workdir or run.workdir
    later = shutil.ignore_patterns(
        *(str(save) for save in SAVES if save > step), "model", "summary.json", "report.html"
    )
    shutil.copytree(whole().workdir, run.workdir, ignore=later)
    shutil.copy(whole().folder / "trace0", run.folder)  # what it has done so far
    return run


def digests(folder: Path) -> dict[str, str]:
    """A hash of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _version() -> str:
    """Of the package: what another one has made is no measure for this one."""
    return hashlib.sha256(repr(sorted(digests(scene.ROOT / "bertjax").items())).encode()).hexdigest()[:12]
