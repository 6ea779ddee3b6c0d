"""Pretraining. ``bertjax.train.run(config, workdir)`` does what ``python -m bertjax.train`` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class Stopped(Exception):
    """The run was asked to stop and has saved everything; started again, it goes on."""


class Diverged(Exception):
    """The run's numbers are no longer finite."""


def run(
    config: Any,
    workdir: str | Path,
    *,
    should_stop: Callable[[int], bool] = lambda step: False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Trains to the end of the config's phases and returns the summary; resumes where the workdir has a checkpoint.

    config: a ConfigDict (or nested dict). should_stop: asked after every step with the number of completed
    updates; where it answers True the run saves and raises ``Stopped``. say: gets every line that would be
    printed (a live progress display on standard output otherwise).

    Raises ConfigError (config, workdir), DataError (corpus), Diverged.
    """
    from bertjax.config import resolve
    from bertjax.train.workdir import check_same_run, claimed, recorded_config

    resolved, workdir = resolve(config), Path(workdir)
    with claimed(workdir):
        # Before jax is imported, which takes seconds: a run that may not start should say so at once.
        recorded = recorded_config(workdir)
        if recorded is not None:
            check_same_run(recorded, resolved, workdir)
        from bertjax.train.display import Display
        from bertjax.train.loop import train

        return train(resolved, workdir, recorded, should_stop, Display(say))
