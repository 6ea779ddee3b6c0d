"""Progress of a long job: a bar if standard error is a terminal, else a plain line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from bertjax.cli.showing import note

_SECONDS_BETWEEN_LINES = 10.0


class ReportProgress(Protocol):
    """Called with the name of the stage, how much is done, and how much there is (0 if unknown)."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@contextmanager
def progress_bar() -> Iterator[ReportProgress]:
    if sys.stderr is None or not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
    times = TimeElapsedColumn(), TimeRemainingColumn()
    with Bars(*columns, *times, console=Console(stderr=True), redirect_stdout=False) as bars:
        tasks = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield show


def _lines() -> ReportProgress:
    last, due = "", 0.0

    def show(stage: str, done: int, total: int) -> None:
        nonlocal last, due
        now = time.monotonic()
        if stage != last or now >= due:
            note(f"{stage} ..." + f" {100 * done // max(total, 1)} %" * bool(total and stage == last))
            last, due = stage, now + _SECONDS_BETWEEN_LINES

    return show
