"""Where this process stands in its run, and a watchdog that ends it when it no longer moves."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bertjax.command import LOST, fail

T = TypeVar("T")


@dataclass
class Progress:
    """Written by the loop, read by whoever watches it. ``step``: the update at hand."""

    step: int = 0
    stage: str = "starting"
    paused: bool = True
    _since: float = field(default_factory=time.monotonic)

    def at(self, stage: str, step: int) -> None:
        """The run has come to a stage of a step that should not take long."""
        self.step, self.stage, self.paused, self._since = step, stage, False, time.monotonic()

    @contextlib.contextmanager
    def pause(self, stage: str) -> Iterator[None]:
        """For work that may take as long as it likes: compiling, saving, waiting for others."""
        before = self.stage, self.paused
        self.stage, self.paused = stage, True
        try:
            yield
        finally:
            self._since = time.monotonic()
            self.stage, self.paused = before

    def slow_at_first(self, function: Callable[..., T]) -> Callable[..., T]:
        """The function, whose first call is a pause: it compiles."""
        pauses = iter([self.pause("compiling")])

        def call(*arguments: Any) -> T:
            with next(pauses, contextlib.nullcontext()):
                return function(*arguments)

        return call

    def age(self) -> float:
        """Seconds since the last change of stage; 0 in a pause."""
        return 0.0 if self.paused else time.monotonic() - self._since


def end_process(message: str, code: int) -> None:
    """Ends this process at once, from any thread, with one line on standard error."""
    fail(message, code)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(code)  # the main thread may hang in a collective for ever


class Watchdog:
    """A thread that calls ``stalled`` once ``progress`` has not moved for ``seconds``; 0: never."""

    def __init__(self, progress: Progress, seconds: float, stalled: Callable[[], None]):
        self._progress, self._seconds, self._stalled = progress, seconds, stalled
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        if seconds:
            self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self._seconds / 10)):
            if self._progress.age() > self._seconds:
                self._stalled()
                return


def end_stalled(progress: Progress) -> None:
    """Shows where every thread stands, and ends the process."""
    faulthandler.dump_traceback(all_threads=True)
    stalled = f"no progress at step {progress.step} ({progress.stage}) for {progress.age():.0f} s"
    end_process(f"{stalled}; if steps take that long, raise config.parallel.watchdog_seconds", LOST)
