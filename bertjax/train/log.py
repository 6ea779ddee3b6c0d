"""metrics.jsonl and TensorBoard: one row a step, also across restarts."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter


class NoLog:
    """What a process has that is not the one to write."""

    def write(self, row: dict[str, Any]) -> None:
        pass

    def rewind(self, step: int) -> None:
        pass

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


class MetricsLog:
    """Appends rows to workdir/metrics.jsonl and their numbers to workdir/tensorboard."""

    def __init__(self, workdir: Path, from_step: int, tensorboard: bool):
        """Rows of steps after ``from_step``, which a resumed run is about to make again, are taken out first."""
        self._path, self._tensorboard = workdir / "metrics.jsonl", workdir / "tensorboard" if tensorboard else None
        self._open(from_step)

    def _open(self, from_step: int) -> None:
        _keep_rows_up_to(self._path, from_step)
        self._file, self._writer = self._path.open("a"), None
        if self._tensorboard is not None:
            self._writer = SummaryWriter(str(self._tensorboard), purge_step=from_step + 1, flush_secs=30)

    def rewind(self, step: int) -> None:
        """Takes out the rows of all steps after ``step``, which are about to be made anew."""
        self.close()
        self._open(step)

    def write(self, row: dict[str, Any]) -> None:
        """One JSON line; numbers that are not finite become null, which JSON has and NaN it has not."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._file.write(json.dumps(clean) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in clean.items():
                if isinstance(value, int | float) and name != "step":
                    self._writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def sync(self) -> None:
        """Brings the rows to the disk; a bucket mounted as a folder has nothing of a file before that."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()


def _keep_rows_up_to(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text().split("\n"):
        try:
            row = json.loads(line)
        except ValueError:  # the torn last line of a killed run
            continue
        if row["step"] <= step:
            kept.append(line + "\n")
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(kept))
    temporary.replace(path)
