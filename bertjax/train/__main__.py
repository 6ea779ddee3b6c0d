"""python -m bertjax.train --config=configs/base.py [--workdir=DIR] [--config.KEY=VALUE ...]"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from bertjax.command import DIVERGED, STOPPED, USAGE, fail, guarded
from bertjax.flags import FlagError, parse

HELP = """\
python -m bertjax.train --config=FILE [--workdir=DIR] [--config.KEY=VALUE ...]

Pretrains a BERT: prepares the corpus, trains all phases, evaluates on held-out text, and leaves the model in
DIR/model in the Hugging Face layout. A DIR that has a checkpoint is resumed.

  --config=FILE         a Python file with get_config(): configs/tiny.py (two CPU cores), configs/small.py (one GPU),
                        configs/base.py and configs/large.py (BERT as published)
  --config.KEY=VALUE    overrides one key of it, for example
                          --config.data.corpus=PATH           your text: .txt, .jsonl, .parquet, also .gz .xz .zst, a
                                                              glob, tfds:NAME, or several separated by commas
                          --config.model.vocab_size=16384
                          --config.phases.phase1.steps=1000
                          --config.precision=float32
  --workdir=DIR         where the run lives; default runs/<config.name>
  --help                this text

Exit codes: 0 done; 2 usage, config or workdir; 3 corpus; 4 the run diverged; 75 stopped by a signal with
everything saved - the same command goes on."""


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or "--help" in argv or "-h" in argv:
        print(HELP)
        return 0 if argv else USAGE
    try:
        config, options = parse("bertjax.train", argv, {"workdir": (None, "folder of the run")})
    except FlagError as error:
        return fail(error, USAGE)
    with StopRequest() as stop:
        return _run(config, Path(options["workdir"] or f"runs/{config.get('name', 'run')}"), stop)


class StopRequest:
    """SIGTERM and SIGINT: the first asks the run to save and stop, a second leaves at once."""

    def __init__(self) -> None:
        self._asked = False
        self._running = False

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

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
