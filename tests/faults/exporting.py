"""Exports of spoilt workdirs, many in one process; loaded with jax by the process that tries."""

from __future__ import annotations

import contextlib
import io
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import exports
import scene

from bertjax import export


def try_all(trials: list[int], note: Callable[..., None], source: Path) -> None:
    """See ``in_process.lines``. trials: the seeds; source: the workdir that is spoilt."""
    folder = scene.new_folder("exporting")

    def exported(workdir: Path, output: Path) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = export.main([f"--workdir={workdir}", f"--output={output}"])
        return code, said.getvalue()

    code, error = exported(source, folder / "expected")
    if code:
        raise RuntimeError(f"what nobody spoilt cannot be exported: {error}")
    expected = exports.contents(folder / "expected")
    for number, seed in enumerate(trials):
        done = exports.spoilt(source, folder / "run", seed)
        note(number, done=done)
        shutil.rmtree(folder / "out", ignore_errors=True)
        try:
            found = exports.outcome(*exported(folder / "run", folder / "out"), folder / "out", expected)
        except Exception:
            found = "unforeseen", traceback.format_exc()[-400:]
        note(number, done=done, outcome=found[0], detail=found[1])
