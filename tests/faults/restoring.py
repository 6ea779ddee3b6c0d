"""The restore path on harmed copies of a checkpoint, many in one process; loaded with jax by the process that tries.

Each trial writes two lines: when it begins, and what came of it. So a trial that takes the process with it is known.
"""

from __future__ import annotations

import functools
import json
import os
import runpy
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from condition import as_ordinary_user
from harms import Trial, harm
from whole import digests

import bertjax.engine.checkpoint.checkpoints as checkpoints
from bertjax.config import resolve
from bertjax.errors import CheckpointError
from bertjax.parallel.mesh import make_mesh
from bertjax.train.pretraining_job import make_job


def try_all(trials: list[Trial], source: Path, scratch: Path, report: Path, config: Path, core: int) -> None:
    """``source``: a folder with the checkpoints of two steps, of which the newer one is harmed in each copy."""
    # A run without privileges: to root no file is unreadable.
    as_ordinary_user()
    os.sched_setaffinity(0, {core})
    jax.config.update("jax_platforms", "cpu")
    # Pure functions of the mesh, compiled once for all trials.
    checkpoints.Checksums = functools.cache(checkpoints.Checksums)
    run = resolve(runpy.run_path(str(config))["get_config"]())
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])  # under pytest there are eight
    shapes = make_job(run, mesh).state_shapes()
    older, newer = sorted(int(path.name) for path in source.iterdir())

    def restored(workdir: Path, said: list[str]) -> tuple[int, dict[str, bytes], dict[str, Any]]:
        step, state, record = checkpoints.Checkpoints(workdir, run.checkpoint, mesh, said.append).restore_newest(shapes)
        arrays = jax.tree_util.tree_leaves_with_path(state)
        return step, {jax.tree_util.keystr(path): np.asarray(x).tobytes() for path, x in arrays}, record

    def copied(*steps: int) -> Path:
        shutil.rmtree(scratch, ignore_errors=True)
        for step in steps:
            shutil.copytree(source / str(step), scratch / "checkpoints" / str(step))
        return scratch

    expected = {step: restored(copied(step), []) for step in (older, newer)}
    with report.open("a") as file:
        for number, trial in enumerate(trials):
            workdir = copied(older, newer)
            done = harm(workdir / "checkpoints" / str(newer), trial)
            file.write(json.dumps({"number": number, "done": done}) + "\n")
            file.flush()
            outcome, detail = _tried(workdir, restored, expected, older, newer)
            file.write(json.dumps({"number": number, "done": done, "outcome": outcome, "detail": detail}) + "\n")
            file.flush()
            _make_readable(workdir)
    shutil.rmtree(scratch)


def _tried(workdir: Path, restored: Any, expected: dict[int, Any], older: int, newer: int) -> tuple[str, str]:
    """What became of a restore, in a word, and the line that was said of it."""
    before, said = digests(workdir / "checkpoints" / str(older)), []
    try:
        found = restored(workdir, said)
    except CheckpointError as error:
        there = all((workdir / "checkpoints" / str(step)).exists() for step in (older, newer))
        return ("refused" if there else "deleted"), str(error)
    except Exception as error:
        return "unforeseen", f"{type(error).__name__}: {error}"
    detail = " / ".join(said)
    if found != expected[found[0]]:
        return "WRONG", detail or "silent"
    if found[0] == newer:
        return "harmless", detail
    if len(said) != 1 or f"step {newer} is damaged (" not in said[0]:
        return "unnamed", detail
    if not (workdir / "damaged" / str(newer)).is_dir() or (workdir / "checkpoints" / str(newer)).exists():
        return "not put aside", detail
    if digests(workdir / "checkpoints" / str(older)) != before:
        return "the step before was changed", detail
    return "fell back", detail


def _make_readable(folder: Path) -> None:
    """So that it can be removed."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        if path.is_dir():
            _make_readable(path)
