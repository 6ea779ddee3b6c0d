"""What the files of a workdir say about its run. Every value is checked here or where the page uses it."""

import functools
import itertools
import json
import math
import operator
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np

# A larger number is not a measurement and cannot be drawn.
_LARGEST = 1e30
_LARGEST_STEP = 1 << 53
_MOST_PHASES = 200
# How many runs of a search are drawn beside the best.
_MOST_OTHERS = 60


def mapping(value: Any) -> dict[str, Any]:
    """``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """``value`` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def number(value: Any) -> float | None:
    """``value`` if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None


def numbers(value: Any) -> dict[str, float]:
    """The entries of a JSON object that are finite numbers."""
    found = {name: number(item) for name, item in mapping(value).items()}
    return {name: item for name, item in found.items() if item is not None}


def count(value: Any) -> int | None:
    """``value`` if it is a non-negative integer."""
    return value if type(value) is int and value >= 0 else None


@dataclass
class Columns:
    """The rows of one kind. ``fields``: name -> step, value, step, value ... of the rows that have this name, NaN for
    anything that is not a drawable number."""

    steps: array = field(default_factory=lambda: array("d"))
    phases: list[str] = field(default_factory=list)
    fields: defaultdict[str, array] = field(default_factory=lambda: defaultdict(lambda: array("d")))

    def add(self, step: int, row: dict[str, Any]) -> None:
        self.steps.append(step)
        phase = row.get("phase")
        self.phases.append(intern(phase) if isinstance(phase, str) else "")
        for name, value in row.items():
            is_drawable = isinstance(value, float | int) and abs(value) < _LARGEST
            self.fields[name].extend((step, value if is_drawable else np.nan))

    def names(self) -> list[str]:
        """The fields that hold at least one number, in the order in which they first appeared."""
        return [name for name in self.fields if len(self.values(name)[1])]

    def values(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) float64 [rows], by step. Empty if no row has a number under this name."""
        steps, values = np.array(self.fields.get(name, ()), np.float64).reshape(-1, 2).T
        order = np.argsort(steps, kind="stable") if np.isfinite(values).any() else np.empty(0, np.int64)
        return steps[order], values[order]

    def last(self, name: str) -> float | None:
        """The last number under this name, by step."""
        values = self.values(name)[1]
        finite = values[np.isfinite(values)]
        return float(finite[-1]) if len(finite) else None


@dataclass
class Metrics:
    """``events``: rows as written."""

    train: Columns = field(default_factory=Columns)
    held_out: Columns = field(default_factory=Columns)
    events: list[dict[str, Any]] = field(default_factory=list)

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


def read_metrics(path: Path, remarks: list[str]) -> Metrics:
    """The rows of a metrics.jsonl. A last line without a line end is still being written and does not count as
    damaged."""
    found, damaged = Metrics(), 0
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
                    damaged += 1
    except OSError:
        remarks.append("no curves, because there is no metrics.jsonl to read")
        return Metrics()
    if damaged:
        remarks.append(f"skipped {damaged:,} damaged line{'s'[: damaged > 1]} of metrics.jsonl")
    found.events.sort(key=lambda event: event["step"])
    return found


@dataclass(frozen=True)
class Phase:
    """A phase or epoch: the steps after ``start``, up to and including ``end``."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Record:
    """``folder``: name of the workdir. ``recorded``: config.json. ``summary``: {} until the run has finished.

    ``saved_step``: step of the newest checkpoint, or 0. ``remarks``: what could not be read, in words. ``others``: if
    the folder holds several runs, ``metrics`` and ``recorded`` belong to the best one and these to the rest.
    """

    folder: str
    recorded: dict[str, Any]
    summary: dict[str, Any]
    metrics: Metrics
    saved_step: int
    remarks: tuple[str, ...]
    others: tuple[Metrics, ...] = ()

    @property
    def config(self) -> dict[str, Any]:
        return mapping(self.recorded.get("config"))

    @property
    def name(self) -> str:
        names = (self.config.get("name"), self.summary.get("name"), self.folder)
        return next(name for name in names if isinstance(name, str) and name)

    @property
    def step(self) -> int:
        """The last step the files know of. Not every step has a row."""
        return max(self.metrics.last_step, self.saved_step)

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole run, or None if the files do not say."""
        planned = self._planned_steps()
        if planned and None not in planned.values():
            return sum(filter(None, planned.values()))
        return count(self.summary.get("steps"))

    @functools.cached_property
    def phases(self) -> list[Phase]:
        """The phases that have begun: as in the config, or else as the rows name them."""
        phases: list[Phase] = []
        planned = self._planned_steps()
        if planned and all(planned.values()):
            ends = itertools.accumulate(int(steps or 0) for steps in planned.values())
            for name, end in zip(planned, ends, strict=True):
                phases.append(Phase(name, phases[-1].end if phases else 0, end))
            return [phase for phase in phases if phase.start < max(1, self.metrics.last_step)]
        rows = zip(self.metrics.train.steps, self.metrics.train.phases, strict=True)
        for name, group in itertools.groupby(rows, key=operator.itemgetter(1)):
            start, end = phases[-1].end if phases else 0, int(max(step for step, _ in group))
            if end > start or not phases:
                phases.append(Phase(name, start, end))
        return [] if len(phases) == 1 and not phases[0].name else phases[:_MOST_PHASES]

    def _planned_steps(self) -> dict[str, int | None]:
        phases = mapping(self.config.get("phases"))
        return {name: count(mapping(phase).get("steps")) for name, phase in phases.items()}


def read_record(workdir: Path) -> Record:
    """Reads whatever is there. ``remarks`` say what cannot be read."""
    remarks: list[str] = []
    summary = _read_object(workdir / "summary.json", remarks)
    own, others = workdir, []
    runs = sorted(path.parent for path in workdir.glob("runs/*/metrics.jsonl"))  # of a search
    if runs and not (workdir / "metrics.jsonl").exists():
        own = next((run for run in runs if _is_best(run, summary)), runs[0])
        rest = [run for run in runs if run != own][:_MOST_OTHERS]
        others = [read_metrics(run / "metrics.jsonl", []) for run in rest]
        remarks.append(f"{len(runs):,} runs; curves and config are those of {own.relative_to(workdir)}")
    recorded = _read_object(own / "config.json", remarks)
    metrics = read_metrics(own / "metrics.jsonl", remarks)
    steps = count(summary.get("steps"))
    if steps is not None and metrics.last_step and metrics.last_step < steps:
        remarks.append("summary.json belongs to an earlier run in this folder and is not shown")
        summary = {}
    names = [child.name for child in (own / "checkpoints").glob("*")]
    saved = max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)
    return Record(workdir.absolute().name, recorded, summary, metrics, saved, tuple(remarks), tuple(others))


def _read_object(path: Path, remarks: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        remarks.append(f"{path.name} cannot be read")
    return mapping(value)


def _is_best(run: Path, summary: dict[str, Any]) -> bool:
    """Whether the summary of a search describes this run."""
    own = _read_object(run / "summary.json", [])
    return bool(own) and all(own.get(name) == summary.get(name) for name in ("learning_rate", "epochs", "seed"))
