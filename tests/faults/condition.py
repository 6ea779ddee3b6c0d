"""Starts of a run under a condition: something that is done to its process before the run begins."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import runs
import scene
from runs import Run, Start

Condition = Callable[[], None]


@dataclass(frozen=True)
class Ended:
    """How a start ended. code: its exit code, minus a signal's number, or None where it hung. at: by time.monotonic."""

    code: int | None
    text: str
    at: float

    @property
    def errors(self) -> list[str]:
        return [line for line in self.text.split("\n") if line.startswith("error:")]

    def refused(self, code: int, *words: str) -> list[str]:
        """What there is to complain of, if it should have ended with ``code`` and one line that has the words."""
        if self.code is None:
            return [f"it hangs, after: {self.last()}"]
        if self.code != code:
            return [f"exit code {self.code} and not {code}: {self.last()}"]
        if len(self.errors) != 1:  # a library may have logged its own view of it before
            return [f"{len(self.errors)} lines of error and not one: {self.last()}"]
        missing = [word for word in words if word not in self.errors[0]]
        return [f"the error does not say {', '.join(map(repr, missing))}: {self.errors[0]}"] if missing else []

    def last(self) -> str:
        return " / ".join(self.text.strip().split("\n")[-3:])[-500:]


def start(
    run: Run,
    condition: Condition | None = None,
    *arguments: str,
    config: Path | None = None,
    cache: Path | None = None,
    stop_at: int = 0,
) -> Start:
    """Starts the run, or goes on with it, in one process of one device, on one core; arguments come last.

    config, cache: others than those that all runs share. stop_at: the step after which it stops as after a signal.
    """
    run.starts += 1
    log = run.folder / f"log0.{run.starts}"
    log.touch()
    options = [f"--config={config or scene.config_file()}", f"--workdir={run.workdir}"]
    plan = {
        "arguments": (*options, *run.overrides, *arguments),
        "workdir": run.workdir,
        "trace": run.folder / "trace0",
        "log": log,
        "cache": cache or scene.folder() / "cache",
        "compiled": scene.compiled(),
        "core": scene.cores()[0],
        "stop_at": stop_at,
    }
    return Start([forked(_train, plan, condition)], [log])


def forked(function: Callable[..., None], *arguments: Any) -> Any:
    """A process that has begun with the function, forked from the one that has loaded jax and bertjax."""
    runs._prepare()
    process = runs._context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def end(run: Run, condition: Condition | None = None, *arguments: str, seconds: float = 180, **options: Any) -> Ended:
    """Starts the run as ``start`` does and waits for its end."""
    started = start(run, condition, *arguments, **options)
    (code,) = started.wait(seconds)
    return Ended(code, started.logs[0].read_text(errors="replace"), time.monotonic())


def _train(plan: dict[str, Any], condition: Condition | None) -> None:
    import child

    if condition:
        condition()
    child.train(child.Plan(**plan))


def as_ordinary_user() -> None:
    """Takes root's privileges from this process, to which permissions of files then apply.

    It stays the owner of what is root's: another user might not be let into the folder of the interpreter.
    """
    if os.geteuid() != 0:
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version of the interface; this thread
    none = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def small_files(most: int) -> None:
    """No file may grow over ``most`` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def hidden_limit() -> None:
    """The disk says that there is space when there is none, as it does where a quota is what is used up."""
    import shutil

    real = shutil.disk_usage
    shutil.disk_usage = lambda path: real(path)._replace(free=1 << 50)
