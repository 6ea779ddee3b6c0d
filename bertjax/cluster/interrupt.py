"""Interrupts a block of code from another thread, without ending the interpreter."""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator


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
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(kind) if kind is not None else None
    )
