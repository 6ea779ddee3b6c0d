"""Ending a block of code from another thread, without ending the interpreter that it runs in."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator


class _Interrupted(BaseException):
    """Raised within the block, past every ``except Exception``."""


# Whether the next SIGINT is one of ours.
_wanted = threading.Event()


def _raise_if_wanted(*_: object) -> None:
    """The handler of SIGINT where it was ignored, as in the background of a script: the user's Ctrl-C still is."""
    if _wanted.is_set():
        _wanted.clear()
        raise _Interrupted


class Interruption:
    """What other threads have of a block. ``left``: set once the block has been left."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.error: Exception | None = None
        self._thread, self._lock = threading.get_ident(), threading.Lock()

    def interrupt(self, error: Exception) -> None:
        """Raises ``error`` out of the block, as soon as its thread runs Python code again.

        In the main thread also out of a wait for a lock or for data, unless the caller has a handler of SIGINT of its
        own: only the handler of a signal can end these.
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
        """After it nothing is raised any more."""
        with self._lock:
            self.left.set()
            if self.error is not None:
                _set_exception(self._thread, None)


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """A block of this thread that other threads can end; it raises what they give."""
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
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(kind) if kind is not None else None
    )
