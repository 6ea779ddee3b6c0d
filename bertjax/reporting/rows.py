"""metrics.jsonl as columns of numbers; lines that are damaged are counted and passed over."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# A larger number is no measurement, and cannot be drawn.
LARGEST = 1e30
_LARGEST_STEP = 1 << 53
_NAN = float("nan")


@dataclass
class Columns:
    """The rows of one kind. ``fields``: name -> values; rows that lack one, or hold null there, have NaN."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    phases: list[str] = field(default_factory=list)
    fields: dict[str, array[float]] = field(default_factory=dict)

    def add(self, step: int, row: dict[str, Any]) -> None:
        before = len(self.steps)
        self.steps.append(step)
        phase = row.get("phase")
        self.phases.append(phase if isinstance(phase, str) else "")
        for name, value in row.items():
            number = _number(value)
            if number is None:
                continue
            column = self.fields.get(name)
            if column is None:
                column = self.fields[name] = array("d")
            column.extend([_NAN] * (before - len(column)))
            column.append(number)

    def values(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) float64, in the order of steps; empty where no row has a number under this name."""
        column = self.fields.get(name)
        if column is None:
            return np.empty(0), np.empty(0)
        steps, values = np.asarray(self.steps), np.full(len(self.steps), _NAN)
        values[: len(column)] = column
        if np.isnan(values).all():
            return np.empty(0), np.empty(0)
        order = np.argsort(steps, kind="stable")
        return steps[order], values[order]

    def last(self, name: str) -> float | None:
        """The number of the row with the highest step that has one."""
        values = self.values(name)[1]
        finite = values[np.isfinite(values)]
        return float(finite[-1]) if len(finite) else None


@dataclass
class Metrics:
    """``events``: rows as they are. ``damaged``: lines that are no row. ``missing``: there is no such file."""

    train: Columns = field(default_factory=Columns)
    held_out: Columns = field(default_factory=Columns)
    events: list[dict[str, Any]] = field(default_factory=list)
    damaged: int = 0
    missing: bool = False

    @property
    def last_step(self) -> int:
        """The highest step of any row; 0 where there is none."""
        steps = [max(columns.steps, default=0) for columns in (self.train, self.held_out)]
        return int(max(*steps, *(event["step"] for event in self.events)) if self.events else max(steps))


def read_metrics(path: Path) -> Metrics:
    """The rows of a metrics.jsonl. A last line without its end is one being written, and not counted as damaged."""
    try:
        with path.open("rb") as file:
            return _take(file)
    except OSError:
        return Metrics(missing=True)


def _take(lines: Iterable[bytes]) -> Metrics:
    found = Metrics()
    columns = {"train": found.train, "eval": found.held_out}
    for line in lines:
        try:
            row = json.loads(line)
            kind, step = row["kind"], row["step"]
            sound = type(step) is int and 0 <= step < _LARGEST_STEP and kind in ("train", "eval", "event")
        except (ValueError, KeyError, TypeError, RecursionError):
            sound = False
        if sound and kind == "event":
            found.events.append(row)
        elif sound:
            columns[kind].add(step, row)
        elif line.strip() and line.endswith(b"\n"):
            found.damaged += 1
    found.events.sort(key=lambda event: event["step"])
    return found


def _number(value: Any) -> float | None:
    """A float that can be drawn, NaN for null and the like; None for what is no number."""
    if value is None:
        return _NAN
    if type(value) is float or type(value) is int:
        return float(value) if -LARGEST < value < LARGEST else _NAN
    return None
