"""The heartbeat of a run, and a watchdog that interrupts the run, or ends the process, without progress."""

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bertjax.cli.command import fail
from bertjax.cli.showing import note
from bertjax.errors import LOST, Stalled

T = TypeVar("T")

IN_STEP = "in the step"  # a stage: here a process waits for the others
# Most seconds between two looks of a watchdog; a gap of several looks means that the process itself was stopped.
LOOK_SECONDS = 1.0
LONGEST_GAP = 4
# Seconds to wait for a run told to stop before explaining why it has not.
RELUCTANT_SECONDS = 10.0


class RunningClock:
    """Seconds in which this process ran. Something must read it regularly: a gap of more than ``longest_gap`` seconds
    between two looks means that the process was stopped, or its machine asleep, and counts as ``longest_gap``."""

    def __init__(self, longest_gap: float, clock: Callable[[], float] = time.monotonic):
        self.longest_gap = longest_gap
        self._clock, self._lock = clock, threading.Lock()
        self._last, self._stopped = clock(), 0.0

    def now(self) -> float:
        with self._lock:
            now = self._clock()
            self._stopped += max(0.0, now - self._last - self.longest_gap)
            self._last = now
            return now - self._stopped


@dataclass
class Heartbeat:
    """Written by the loop, read by watchdog and monitor. ``step``: the current update."""

    step: int = 0
    stage: str = "starting"
    paused: bool = True
    clock: RunningClock = field(default_factory=lambda: RunningClock(LONGEST_GAP * LOOK_SECONDS))

    def __post_init__(self) -> None:
        self._since = self.clock.now()

    def at(self, stage: str, step: int) -> None:
        self.step, self.stage, self.paused, self._since = step, stage, False, self.clock.now()

    @contextlib.contextmanager
    def pause(self, stage: str) -> Iterator[None]:
        """For work without a time limit: compiling, saving, waiting for others."""
        before = self.stage, self.paused
        self.stage, self.paused = stage, True
        try:
            yield
        finally:
            self._since = self.clock.now()
            self.stage, self.paused = before

    def slow_at_first(self, function: Callable[..., T]) -> Callable[..., T]:
        """The function; its first call, which compiles, is a pause."""
        pauses = iter([self.pause("compiling")])

        def call(*arguments: Any) -> T:
            with next(pauses, contextlib.nullcontext()):
                return function(*arguments)

        return call

    def age(self) -> float:
        """Seconds since the last change of stage in which the process ran; 0 in a pause."""
        now = self.clock.now()
        return 0.0 if self.paused else max(0.0, now - self._since)


def end_process(message: str, code: int) -> None:
    """Ends this process immediately, from any thread, with one line on standard error."""
    fail(message, code)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(code)  # the main thread may hang in a collective for ever


@contextlib.contextmanager
def watchdog(heartbeat: Heartbeat, seconds: float, stalled: Callable[[], object]) -> Iterator[None]:
    """Within the block a thread calls ``stalled`` each time ``heartbeat`` makes no progress for ``seconds``; 0: never.
    It counts its own looks, so a process that was stopped (SIGSTOP, a machine asleep) continues afterwards."""
    look_seconds, over = min(LOOK_SECONDS, seconds / 10), threading.Event()

    def watch() -> None:
        called = False
        while not over.wait(look_seconds):
            is_stalled = heartbeat.age() > seconds
            if is_stalled and not called:
                stalled()
            called = is_stalled

    if seconds:
        heartbeat.clock.longest_gap = LONGEST_GAP * look_seconds
        threading.Thread(target=watch, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        over.set()


class _Interrupted(BaseException):
    """Raised in the block; no ``except Exception`` catches it."""


# Whether the next SIGINT is one of ours.
_wanted = threading.Event()


def _raise_if_wanted(*_: object) -> None:
    """Handles SIGINT if the process ignored it, as in the background of a script; Ctrl-C is still ignored."""
    if _wanted.is_set():
        _wanted.clear()
        raise _Interrupted


class Interruption:
    """Lets other threads interrupt a block. ``left``: set once the block has ended."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.error: Exception | None = None
        self._thread, self._lock = threading.get_ident(), threading.Lock()

    def interrupt(self, error: Exception) -> None:
        """Makes the block raise ``error`` as soon as its thread runs Python code again.

        In the main thread this also ends a wait for a lock or for data, which only a signal handler can do, unless the
        caller handles SIGINT itself.
        """
        with self._lock:
            if self.left.is_set():
                return
            self.error = error
            is_main = self._thread == threading.main_thread().ident
            if is_main and signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _raise_if_wanted):
                _wanted.set()
                signal.pthread_kill(self._thread, signal.SIGINT)
            else:
                _set_exception(self._thread, _Interrupted)

    def leave(self) -> None:
        with self._lock:
            self.left.set()
            if self.error is not None:
                _set_exception(self._thread, None)


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """A block of this thread that other threads can interrupt; it raises the error they give."""
    interruption = Interruption()
    is_main = threading.current_thread() is threading.main_thread()
    ignored = is_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, _raise_if_wanted)
    try:
        try:
            yield interruption
        finally:
            interruption.leave()
    except (_Interrupted, KeyboardInterrupt):
        interruption.leave()  # it may have come on the way out
        if interruption.error is None:  # the user's own Ctrl-C
            raise
        raise interruption.error from None
    finally:
        _wanted.clear()
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _set_exception(thread: int, kind: type[BaseException] | None) -> None:
    raised = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


def end_stalled(heartbeat: Heartbeat) -> None:
    end_process(_stalled(heartbeat), LOST)


def raise_stalled(heartbeat: Heartbeat, interruption: Interruption) -> None:
    """Prints the stack of every thread and raises Stalled in the thread of the run; warns if native code delays it."""
    message = _stalled(heartbeat)
    interruption.interrupt(Stalled(message))
    if not interruption.left.wait(RELUCTANT_SECONDS):
        advice = "the run is in native code and raises Stalled when that returns; end the interpreter if it never does"
        note(f"warning: {message}. {advice}")


def _stalled(heartbeat: Heartbeat) -> str:
    """The message; also prints the stack of every thread."""
    with contextlib.suppress(Exception):  # a notebook's standard error is not a file
        faulthandler.dump_traceback(all_threads=True)
    stalled = f"no progress at step {heartbeat.step} ({heartbeat.stage}) for {heartbeat.age():.0f} s"
    return f"{stalled}; if steps take that long, raise config.parallel.watchdog_seconds"
