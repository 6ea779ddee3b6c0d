"""Many trials in one process, forked from the one that has loaded jax; each writes down when it begins and ends.

So a trial that hangs or takes the process with it is known, and the others go on in a new process.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import condition
import scene

LIMIT_SECONDS = 120.0


def lines(module: str, trials: Sequence[Any], *arguments: Any) -> Iterator[dict[str, Any]]:
    """What came of each trial, in their order, or what it began with where it hung or ended the process.

    ``module.try_all(trials, note, *arguments)`` calls ``note(number, **values)`` when trial ``number`` begins and ends.
    """
    folder, done = scene.new_folder(module), 0
    while done < len(trials):
        report, log = folder / f"report{done}", folder / f"log{done}"
        report.touch()
        process = condition.forked(_enter, module, trials[done:], report, log, arguments)
        found = watched(process, report, LIMIT_SECONDS)
        if not found:
            raise RuntimeError(f"no trial began: {log.read_text()[-2000:]}")
        yield from found
        done += len(found)


def watched(process: Any, report: Path, limit: float) -> list[dict[str, Any]]:
    """The last line of every trial, once the process has ended or a trial has taken longer than ``limit`` seconds."""
    size, since = -1, time.monotonic()
    while process.is_alive():
        process.join(0.2)
        if report.stat().st_size != size:
            size, since = report.stat().st_size, time.monotonic()
        if time.monotonic() - since > limit:
            process.kill()
            process.join()
    last = {line["number"]: line for line in map(json.loads, report.read_text().splitlines())}
    return [last[number] for number in sorted(last)]


def _enter(module: str, trials: Sequence[Any], report: Path, log: Path, arguments: tuple[Any, ...]) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.sched_setaffinity(0, {scene.cores()[0]})
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=1"
    os.environ["BERTJAX_CACHE"] = str(scene.folder() / "cache")
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", str(scene.compiled()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    with report.open("a") as file:

        def note(number: int, **values: Any) -> None:
            file.write(json.dumps({"number": number, **values}) + "\n")
            file.flush()

        attempt: Callable[..., None] = importlib.import_module(module).try_all
        attempt(trials, note, *arguments)
