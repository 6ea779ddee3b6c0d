"""Reads metrics.jsonl into columns of numbers. Damaged lines are counted and skipped."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np

# A larger number is not a measurement and cannot be drawn.
LARGEST = 1e30
_LARGEST_STEP = 1 << 53


@dataclass
class Columns:
    """The rows of one kind. ``fields``: name -> (steps, values) of the rows that have this name, NaN for anything
    that is not a drawable number."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    phases: list[str] = field(default_factory=list)
    fields: dict[str, tuple[array[float], array[float]]] = field(default_factory=dict)

    def add(self, step: int, row: dict[str, Any]) -> None:
        self.steps.append(step)
        phase = row.get("phase")
        self.phases.append(intern(phase) if isinstance(phase, str) else "")
        for name, value in row.items():
            steps, values = self.fields.get(name) or self.fields.setdefault(name, (array("d"), array("d")))
            steps.append(step)
            values.append(value if isinstance(value, float | int) and abs(value) < LARGEST else np.nan)

    def names(self) -> list[str]:
        """The fields that hold at least one number, in the order in which they first appeared."""
        return [name for name, (_, values) in self.fields.items() if np.isfinite(values).any()]

    def values(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) float64 [rows], by step. Empty if no row has a number under this name."""
        steps, values = (np.asarray(column, np.float64) for column in self.fields.get(name, ((), ())))
        if not np.isfinite(values).any():
            return np.empty(0), np.empty(0)
        order = np.argsort(steps, kind="stable")
        return steps[order], values[order]

    def last(self, name: str) -> float | None:
        """The last number under this name, by step."""
        values = self.values(name)[1]
        finite = values[np.isfinite(values)]
        return float(finite[-1]) if len(finite) else None


@dataclass
class Metrics:
    """``events``: rows as written. ``damaged``: how many lines are not rows. ``missing``: the file cannot be read."""

    train: Columns = field(default_factory=Columns)
    held_out: Columns = field(default_factory=Columns)
    events: list[dict[str, Any]] = field(default_factory=list)
    damaged: int = 0
    missing: bool = False

    @property
    def last_step(self) -> int:
        """The highest step of any row, or 0."""
        steps = [*self.train.steps, *self.held_out.steps, *(event["step"] for event in self.events)]
        return int(max(steps, default=0))


def loss_parts(names: Iterable[str]) -> list[str]:
    """The parts of a pretraining loss, such as "mlm", that have both NAME_loss and NAME_accuracy among the fields."""
    fields = dict.fromkeys(names)
    parts = [name.removesuffix("_loss") for name in fields if name.endswith("_loss")]
    return [part for part in parts if f"{part}_accuracy" in fields]


def is_of(part: str, name: str) -> bool:
    """Whether the field ``name`` belongs to this part of a pretraining loss."""
    return name.startswith(f"{part}_") and name.endswith(("_loss", "_accuracy", "_chance", "_pairs", "_share"))


def read_metrics(path: Path) -> Metrics:
    """The rows of a metrics.jsonl. A last line without a line end is still being written and does not count as
    damaged."""
    found = Metrics()
    columns = {"train": found.train, "eval": found.held_out}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                try:
                    row = json.loads(line)
                    kind, step = row["kind"], row["step"]
                    sound = type(step) is int and 0 <= step < _LARGEST_STEP and kind in (*columns, "event")
                except (ValueError, KeyError, TypeError, RecursionError):
                    sound = False
                if sound and kind == "event":
                    found.events.append(row)
                elif sound:
                    columns[kind].add(step, row)
                elif line.strip() and line.endswith("\n"):
                    found.damaged += 1
    except OSError:
        return Metrics(missing=True)
    found.events.sort(key=lambda event: event["step"])
    return found
