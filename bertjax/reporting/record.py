"""What the files of a workdir say of its run, each piece checked before the page relies on it."""

from __future__ import annotations

import functools
import itertools
import json
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertjax.reporting.rows import Metrics, read_metrics

_MOST_BANDS = 200
# Of a search, so many runs are drawn beside the best.
_MOST_OTHERS = 60


@dataclass(frozen=True)
class Band:
    """A phase, from after step ``start`` to step ``end``."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Record:
    """``folder``: name of the workdir. ``recorded``: config.json. ``summary``: {} while the run goes on.

    ``saved_step``: that of the newest checkpoint, 0 where there is none. ``remarks``: what could not be read, in words.
    ``others``: where the folder holds several runs, ``metrics`` and ``recorded`` are of the best, these of the rest.
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
        """How far the run has come, as far as the files tell: not every step has a row."""
        return max(self.metrics.last_step, self.saved_step)

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole run, where the files tell."""
        planned = [count(mapping(phase).get("steps")) for phase in mapping(self.config.get("phases")).values()]
        if planned and None not in planned:
            return sum(filter(None, planned))
        return count(self.summary.get("steps"))

    @functools.cached_property
    def bands(self) -> list[Band]:
        """The phases that have begun: of the config, or else as the rows name them."""
        planned = {
            name: count(mapping(phase).get("steps")) for name, phase in mapping(self.config.get("phases")).items()
        }
        if planned and all(planned.values()):
            bands, end = [], 0
            for name, steps in planned.items():
                bands.append(Band(name, end, end := end + int(steps or 0)))
            return [band for band in bands if band.start < max(1, self.metrics.last_step)]
        return _bands_of(zip(self.metrics.train.steps, self.metrics.train.phases, strict=True))[:_MOST_BANDS]


def read_record(workdir: Path) -> Record:
    """Everything that is there; what is not readable is said in ``remarks``."""
    remarks: list[str] = []
    summary = _read_object(workdir / "summary.json", remarks)
    own, others = workdir, []
    if not (workdir / "metrics.jsonl").exists() and (runs := _runs(workdir)):
        own = next((run for run in runs if _is_of(summary, run)), runs[0])
        rest = [run for run in runs if run != own][:_MOST_OTHERS]
        others = [read_metrics(run / "metrics.jsonl") for run in rest]
        remarks.append(f"{len(runs):,} runs; curves and config are those of {own.relative_to(workdir)}")
    metrics = read_metrics(own / "metrics.jsonl")
    recorded = _read_object(own / "config.json", remarks)
    if metrics.missing:
        remarks.append("there is no metrics.jsonl to read: no curves")
    if metrics.damaged:
        plural = "line" if metrics.damaged == 1 else "lines"
        remarks.append(f"{metrics.damaged:,} damaged {plural} of metrics.jsonl passed over")
    steps = count(summary.get("steps"))
    if steps is not None and metrics.last_step and metrics.last_step < steps:
        remarks.append("summary.json is of an earlier run in this folder: not shown")
        summary = {}
    saved = _newest(own / "checkpoints")
    return Record(workdir.absolute().name, recorded, summary, metrics, saved, tuple(remarks), tuple(others))


def mapping(value: Any) -> dict[str, Any]:
    """``value`` where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """``value`` where it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def number(value: Any) -> float | None:
    """``value`` where it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None


def count(value: Any) -> int | None:
    """``value`` where it is a whole number, not negative."""
    return value if type(value) is int and value >= 0 else None


def numbers(value: Any) -> dict[str, float]:
    """The entries of a JSON object that are finite numbers."""
    found = {name: number(item) for name, item in mapping(value).items()}
    return {name: item for name, item in found.items() if item is not None}


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


def _runs(workdir: Path) -> list[Path]:
    """The folders of the runs of a search, which lie in one folder of the workdir."""
    return sorted(path.parent for path in workdir.glob("runs/*/metrics.jsonl"))


def _is_of(summary: dict[str, Any], run: Path) -> bool:
    """Whether the summary of a search is that of this run, the best."""
    own = _read_object(run / "summary.json", [])
    return bool(own) and all(own.get(name) == summary.get(name) for name in ("learning_rate", "epochs", "seed"))


def _newest(checkpoints: Path) -> int:
    try:
        return max(
            (int(child.name) for child in checkpoints.iterdir() if child.name.isascii() and child.name.isdigit()),
            default=0,
        )
    except OSError:
        return 0


def _bands_of(rows: Iterable[tuple[float, str]]) -> list[Band]:
    bands: list[Band] = []
    for name, group in itertools.groupby(rows, key=operator.itemgetter(1)):
        end = int(max(step for step, _ in group))
        start = bands[-1].end if bands else 0
        if end > start or not bands:
            bands.append(Band(name, start, end))
    return [] if len(bands) == 1 and not bands[0].name else bands
