"""Progress of a run and of a long job: a live bar on a terminal, plain lines now and then otherwise."""

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bertjax.cli.showing import note, plain
from bertjax.cli.streams import LastingStream

SECONDS_BETWEEN_LINES = 10.0
# Called with the name of the stage, how much is done, and how much there is (0 if unknown).
ReportProgress = Callable[[str, int, int], None]


class Display:
    """``say`` prints a line; ``show`` takes every train row and decides what to print of it."""

    def __init__(self, say: Callable[[str], None] | None = None):
        """say: takes plain lines; default: standard output, live if that is a terminal."""
        output: Any = LastingStream(sys.stdout)  # the run continues when nobody reads any more
        self._console = Console(highlight=False, soft_wrap=True, file=output)
        self._say = say
        self._progress: Progress | None = None
        self._last_line = -float("inf")

    def say(self, line: str) -> None:
        if self._say is not None:
            self._say(plain(line))
        else:
            self._console.print(plain(line), markup=False)

    def table(self, table: Table) -> None:
        """Prints a table; if lines go to ``say``, one line at a time."""
        if self._say is None:
            self._console.print(table)
            return
        drawn = io.StringIO()
        Console(file=drawn, width=160).print(table)
        for line in drawn.getvalue().rstrip("\n").split("\n"):
            self._say(line)

    def begin(self, step: int, total: int) -> None:
        self._total = total
        self._started = (time.monotonic(), step)
        if self._say is None and self._console.is_terminal:
            done = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
            times = TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn()
            self._progress = Progress(*done, *times, console=self._console, refresh_per_second=4)
            self._progress.start()
            self._progress.add_task("compiling", total=total, completed=step)

    def show(self, row: dict[str, Any], milestone: bool) -> None:
        """Shows a train row. Plain output has every milestone, and otherwise at most one line in ten seconds."""
        line = f"{row['phase']}  {describe(row)}"
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=row["step"], description=plain(line))
            return
        now = time.monotonic()
        if milestone or now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.say(f"step {row['step']:>{len(str(self._total))}}/{self._total}  {line}{self._eta(now, row['step'])}")

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _eta(self, now: float, step: int) -> str:
        began, first = self._started
        if step - first < 2:
            return ""
        left = (now - began) / (step - first) * (self._total - step)
        return f"  ETA {timedelta(seconds=int(left))}"


def describe(row: dict[str, Any]) -> str:
    losses = {name: name.removesuffix("_loss") for name in row if name == "loss" or name.endswith("_loss")}
    parts = [f"{word} {row[name]:.3f}" for name, word in (losses | {"accuracy": "accuracy"}).items() if name in row]
    parts.append(f"lr {row['learning_rate']:.2e}")
    if row.get("tokens_per_second"):
        parts.append(f"{row['tokens_per_second']:,.0f} tokens/s")
    if row.get("mfu"):
        parts.append(f"MFU {row['mfu']:.1%}")
    return "  ".join(parts)


@contextmanager
def progress_bar() -> Iterator[ReportProgress]:
    """Shows the progress of a long job on standard error."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _lines()
        return
    done = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
    times = TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*done, *times, console=Console(stderr=True), redirect_stdout=False) as bars:
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
            last, due = stage, now + SECONDS_BETWEEN_LINES

    return show
