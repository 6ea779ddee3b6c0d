"""A trace of a few training steps, for TensorBoard and Perfetto."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from bertjax.cli.paths import given_path
from bertjax.errors import ConfigError

STEPS = 5


def trace_folder(given: str | None) -> Path | None:
    """The folder that --profile names, made where it is not there; None without one. Raises ConfigError."""
    if given is None:
        return None
    folder = given_path(given, "--profile")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--profile = {given}: {error.strerror}") from None
    return folder


def write_trace(folder: Path, step: Callable[[], Any]) -> str:
    """Traces ``STEPS`` calls of ``step``, which returns arrays, into a new folder under ``folder``, whose name is the
    time. Returns the path of the trace for Perfetto."""
    before = set(folder.rglob("*.trace.json.gz"))
    with jax.profiler.trace(folder):
        for number in range(STEPS):
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                jax.block_until_ready(step())
    return str(max(set(folder.rglob("*.trace.json.gz")) - before, default=folder))
