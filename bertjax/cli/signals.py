"""Signals that ask a run to stop."""

import os
import signal
from typing import Any

from bertjax.errors import STOPPED


class StopRequest:
    """SIGTERM, SIGINT and SIGHUP: the first asks the run to save and stop, a second leaves at once.

    A hang-up is never that second: when a terminal closes, shell and kernel each send one, and service managers send
    one after their SIGTERM.
    """

    def __init__(self) -> None:
        self._asked = False
        self._insisting = False  # whether a signal other than a hang-up has asked
        self._running = False

    def __enter__(self) -> "StopRequest":
        hang_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN  # started by nohup
        numbers = (signal.SIGTERM, signal.SIGINT, *[signal.SIGHUP] * hang_up)
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, step: int) -> bool:
        self._running = True
        return self._asked

    def _on_signal(self, number: int, frame: Any) -> None:
        # Before the first step is done there is nothing to save; and whoever asks twice does not want to wait.
        if not self._running or (self._insisting and number != signal.SIGHUP):
            os._exit(STOPPED)
        self._asked = True
        self._insisting = self._insisting or number != signal.SIGHUP
