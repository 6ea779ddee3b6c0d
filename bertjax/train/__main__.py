"""python -m bertjax.train --config=configs/base.py [--workdir=DIR] [--config.KEY=VALUE ...]"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from bertjax.command import DIVERGED, STOPPED, USAGE, fail, guarded
from bertjax.train.flags import HELP, FlagError, parse


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or "--help" in argv or "-h" in argv:
        print(HELP)
        return 0 if argv else USAGE
    try:
        config, workdir = parse(argv)
    except FlagError as error:
        return fail(error, USAGE)
    stop = StopRequest()
    stop.listen()
    return _run(config, Path(workdir), stop)


class StopRequest:
    """SIGTERM and SIGINT: the first asks the run to save and stop, a second leaves at once."""

    def __init__(self) -> None:
        self._asked = False
        self._running = False

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __call__(self, step: int) -> bool:
        self._running = True
        return self._asked

    def _on_signal(self, number: int, frame: Any) -> None:
        # Before the first step is done there is nothing to save; and whoever asks twice does not want to wait.
        if self._asked or not self._running:
            os._exit(STOPPED)
        self._asked = True


def _run(config: Any, workdir: Path, stop: StopRequest) -> int:
    from bertjax.train import Diverged, Stopped, run

    try:
        return guarded(lambda: run(config, workdir, should_stop=stop))
    except Stopped as stopped:
        print(stopped, flush=True)
        return STOPPED
    except Diverged as error:
        return fail(error, DIVERGED)


if __name__ == "__main__":
    sys.exit(main())
