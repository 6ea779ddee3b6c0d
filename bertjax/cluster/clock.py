"""Seconds in which this process ran: what a clock shows less the time that it was stopped for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RunningClock:
    """Somebody looks at it all the time. Where nobody did for longer than ``longest_gap`` seconds the process itself
    stood still - by SIGSTOP, or because its machine slept - and that time counts as ``longest_gap``."""

    def __init__(self, longest_gap: float, clock: Callable[[], float] = time.monotonic):
        self.longest_gap = longest_gap
        self._clock, self._lock = clock, threading.Lock()
        self._last, self._stopped = clock(), 0.0

    def now(self) -> float:
        """Seconds since an arbitrary moment."""
        with self._lock:
            now = self._clock()
            self._stopped += max(0.0, now - self._last - self.longest_gap)
            self._last = now
            return now - self._stopped
