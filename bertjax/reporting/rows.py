"""metrics.jsonl as columns of numbers; lines that are damaged are counted and passed over."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np

# A larger number is no measurement, and cannot be drawn.
LARGEST = 1e30
_LARGEST_STEP = 1 << 53
_NAN, _LACKING = float("nan"), float("inf")
_TOGETHER = 4096


@dataclass
class Columns:
    """The rows of one kind. ``fields``: name -> values; rows that hold null have NaN, those that lack one infinity."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    phases: list[str] = field(default_factory=list)
    fields: dict[str, array[float]] = field(default_factory=dict)
    # Rows with the same names in the same order, as most of them have, are turned into columns together.
    _names: tuple[str, ...] = ()
    _rows: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, step: int, row: dict[str, Any]) -> None:
        names = tuple(row)
        if names != self._names or len(self._rows) == _TOGETHER:
            self.settle()
            self._names = names
        self._rows.append(tuple(row.values()))
        self.steps.append(step)
        phase = row.get("phase")
        self.phases.append(intern(phase) if isinstance(phase, str) else "")

    def settle(self) -> None:
        """Puts the rows that were added into the columns."""
        before = len(self.steps) - len(self._rows)
        for name, values in zip(self._names, zip(*self._rows, strict=True), strict=False):
            numbers = _numbers(values)
            if name in self.fields or not np.isnan(numbers).all():
                column = self.fields.setdefault(name, array("d"))
                column.extend([_LACKING] * (before - len(column)))
                column.frombytes(numbers.tobytes())
        self._rows = []

    def values(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) float64 of the rows that have this name, in the order of steps; NaN for null.

        Empty where no row has a number under it.
        """
        column = self.fields.get(name)
        if column is None:
            return np.empty(0), np.empty(0)
        values = np.asarray(column)
        there = values != _LACKING
        steps, values = np.asarray(self.steps)[: len(values)][there], values[there]
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
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            return _take(file)
    except OSError:
        return Metrics(missing=True)


def _take(lines: Iterable[str]) -> Metrics:
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
        elif line.strip() and line.endswith("\n"):
            found.damaged += 1
    for part in columns.values():
        part.settle()
    found.events.sort(key=lambda event: event["step"])
    return found


def _numbers(values: tuple[Any, ...]) -> np.ndarray:
    """Float64, NaN for what is no number that can be drawn."""
    if not all(isinstance(value, float | int) for value in values):
        values = tuple(value if isinstance(value, float | int) else _NAN for value in values)
    try:
        numbers = np.array(values, np.float64)
    except OverflowError:  # a whole number of hundreds of digits
        numbers = np.array([value if abs(value) < LARGEST else _NAN for value in values], np.float64)
    numbers[~(np.abs(numbers) < LARGEST)] = _NAN
    return numbers
