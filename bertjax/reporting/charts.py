"""Draws charts as SVG with matplotlib: lines over steps, phases as bands, events as vertical marks.

The page scales a chart to the available width and switches between light and dark, so colours are written as CSS
variables and text stays text.
"""

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from bertjax.reporting.record import Phase
from bertjax.reporting.wording import figure, printable, ticks

# Size of a chart and of its plot (left, top, width, height), in units of the SVG.
_WIDTH, _HEIGHT = 380.0, 205.0
_PLOT = (36.0, 18.0, 336.0, 166.0)
_TEXT, _CHARACTER = 8.5, 4.8
# The share of the plot's width below which a phase gets no name, and two letters would overlap.
_NARROW_PHASE, _LETTER = 0.15, 0.04
# Marks of one kind that are closer than this share of the width are drawn as one.
_MARK_GAP = 1 / 400
# A line with at most this many points shows each of them.
_DOTTED = 40
# Values that span more than this factor get a logarithmic axis, if the chart allows one.
_LOG_FACTOR = 30.0
# Columns of a drawing, each with the lowest and highest of its values: finer than a chart on a screen.
_COLUMNS = 800
# A series with more points than this also gets a mean over _WINDOWS windows.
_MANY = 120
_WINDOWS = 100
_SETTINGS: dict[Any, Any] = {
    "axes.autolimit_mode": "round_numbers",  # axes end at a tick
    "axes.xmargin": 0,
    "axes.ymargin": 0,
    "font.family": "DejaVu Sans",  # comes with matplotlib; the page replaces it
    "path.simplify": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "bertjax",  # the same chart gets the same ids
    "text.parse_math": False,
}
# Colours of the style sheet. Matplotlib draws with #000001, #000002 ... in their place.
_COLORS = ("train", "held-out", "baseline", "band", "grid", "muted", "card")
_COLORS += ("resumed", "rollback", "skipped", "best", "other")
_PAINT = {name: f"#0000{index:02x}" for index, name in enumerate(_COLORS, start=1)}
_LINES: dict[str, dict[str, Any]] = {
    "others": {"color": _PAINT["held-out"], "linewidth": 0.7, "alpha": 0.45},
    "train": {"color": _PAINT["train"], "linewidth": 1.2},
    "held-out": {"color": _PAINT["held-out"], "linewidth": 1.5},
    "baseline": {"color": _PAINT["baseline"], "linewidth": 1.0, "linestyle": (0, (4, 3))},
}
_DASHES = {"resumed": (6, 3), "rollback": None, "skipped": (2, 3), "best": (8, 2), "other": (1, 4)}


@dataclass(frozen=True)
class Chart:
    """``field``: of the rows. ``unit``: of the axis; shares are drawn as %. ``show``: formats a stored number.
    ``averaged``: a long, noisy line also gets a mean. ``baseline``: (name, field of the eval rows). ``dull``: no chart
    if every value equals this."""

    title: str
    field: str
    unit: str = ""
    show: Callable[[float], str] = figure
    from_zero: bool = True
    may_be_log: bool = False
    averaged: bool = True
    baseline: tuple[str, str] | None = None
    dull: float | None = None


@dataclass(frozen=True)
class Line:
    """``role``: train, held-out, others or baseline; decides the look. ``steps``, ``values``: float64, NaN is a gap."""

    name: str
    role: str
    steps: np.ndarray
    values: np.ndarray

    def finite(self) -> np.ndarray:
        return self.values[np.isfinite(self.values)]

    def in_words(self, show: Callable[[float], str]) -> str:
        steps, values = self.steps[np.isfinite(self.values)], self.finite()
        first, last = (f"{show(float(values[at]))} at step {steps[at]:,.0f}" for at in (0, -1))
        return f"{self.name}: {first}, {last}."


@dataclass(frozen=True)
class Mark:
    """An event after step ``step``. ``kind``: its look. ``letter``: stands on its line. ``words``: for the legend."""

    step: int
    kind: str
    letter: str
    words: str


def draw(chart: Chart, lines: Sequence[Line], last: int, phases: Sequence[Phase], marks: Sequence[Mark]) -> dict:
    """Draws ``lines``, each with at least one finite value, from step 0 to ``last``. Returns ``title``, ``unit``,
    ``label`` (the chart in words), ``svg``, ``legend`` as (role, name, last value), and ``data``, from which the script
    gets the values at a place in the SVG."""
    shown = list({line.name: line for line in lines}.values())
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        canvas = FigureCanvasSVG(Figure((_WIDTH / 72, _HEIGHT / 72), facecolor="none"))
        left, top, width, height = _PLOT
        place = (left / _WIDTH, 1 - (top + height) / _HEIGHT, width / _WIDTH, height / _HEIGHT)
        axes = canvas.figure.add_axes(place, facecolor="none", frame_on=False, axisbelow=True)
        for line in lines:
            _draw_line(axes, line, last, chart.averaged)
        _scale(axes, chart, last, np.concatenate([line.finite() for line in lines]))
        _draw_phases(axes, phases, last)
        _draw_marks(axes, marks, last)
        drawn = io.StringIO()
        canvas.print_svg(drawn, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    name = lambda line: line.name if len(shown) > 1 else "last"
    return {
        "title": chart.title,
        "unit": chart.unit,
        "label": f"{chart.title}. " + " ".join(line.in_words(chart.show) for line in shown),
        "legend": [(line.role, name(line), chart.show(float(line.finite()[-1]))) for line in shown],
        "data": {
            "box": " ".join(f"{at:g}" for at in _PLOT),
            "last": last,
            "range": " ".join(repr(float(end)) for end in axes.get_ylim()),
            "scale": axes.get_yscale(),
            "unit": chart.unit,
            "names": json.dumps([line.name for line in lines if line.role != "others"]),
        },
        "svg": _for_the_page(drawn.getvalue()),
    }


def _draw_line(axes: Axes, line: Line, last: int, averaged: bool) -> None:
    look: dict[str, Any] = {"clip_on": False, **_LINES[line.role]}
    steps, values = _thinned(line.steps, line.values, last)
    points = len(line.finite())
    if points <= _DOTTED and line.role in ("train", "held-out"):
        look |= {"marker": "o", "markersize": 4, "markeredgewidth": 0}
    many = averaged and line.role == "train" and points > _MANY
    faint: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.4} if many else {}
    axes.plot(steps, values, gid="other-line" if line.role == "others" else f"line {line.role}", **(look | faint))
    if many:
        axes.plot(*_windowed_means(line.steps, line.values, last), gid="mean", **look)


def _thinned(steps: np.ndarray, values: np.ndarray, last: float) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of the points that a drawing from step 0 to ``last`` needs, with a NaN for each gap between
    them. ``steps`` ascend."""
    kept = finite = np.flatnonzero(np.isfinite(values))
    gaps = finite[1:][np.diff(finite) > 1] - 1
    if len(finite) > 2 * _COLUMNS:
        column = np.minimum(steps[finite] / last * _COLUMNS, _COLUMNS - 1).astype(np.int64)
        order = np.lexsort((values[finite], column))
        change = np.flatnonzero(np.diff(column[order]))  # between the highest of a column and the lowest of the next
        kept = finite[[0, -1, order[0], order[-1], *order[change], *order[change + 1]]]
    kept = np.unique(np.concatenate([kept, gaps]))
    return steps[kept], values[kept]


def _windowed_means(steps: np.ndarray, values: np.ndarray, last: float) -> tuple[np.ndarray, np.ndarray]:
    """(mean step, mean value) of the finite points in each of _WINDOWS equal windows that has any."""
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    window = np.minimum(steps / last * _WINDOWS, _WINDOWS - 1).astype(np.int64)
    counts = np.bincount(window, minlength=_WINDOWS)
    used = counts > 0
    mean = lambda x: np.bincount(window, weights=x, minlength=_WINDOWS)[used] / counts[used]
    return mean(steps), mean(values)


def _scale(axes: Axes, chart: Chart, last: int, values: np.ndarray) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if chart.may_be_log and values.min() > 0 and values.max() / values.min() > _LOG_FACTOR:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
    elif chart.from_zero and values.min() > 0:
        axes.update_datalim([(0, 0)], updatex=False)
    axes.autoscale_view()
    axes.set_xlim(0, last)
    steps = [step for step in axes.get_xticks() if step <= last]
    low, high = axes.get_ylim()
    heights = [at for at in axes.get_yticks() if low <= at <= high]
    scaled = [at * 100 if chart.unit == "%" else at for at in heights]
    axes.set_xticks(steps, ticks(steps))
    axes.set_yticks(heights, [ticks([at])[0] for at in scaled] if axes.get_yscale() == "log" else ticks(scaled))
    axes.tick_params(length=0, pad=6, labelcolor=_PAINT["muted"], labelsize=_TEXT)
    axes.grid(axis="y", color=_PAINT["grid"], linewidth=0.7, clip_on=False)


def _draw_phases(axes: Axes, phases: Sequence[Phase], last: int) -> None:
    """Shades every second phase, and names those that are wide enough."""
    for index, phase in enumerate(phases):
        start, end = phase.start, min(phase.end, last)
        if index % 2:
            axes.axvspan(start, end, color=_PAINT["band"], linewidth=0, zorder=0, clip_on=False, gid="band")
        share = (end - start) / last
        if phase.name and share >= _NARROW_PHASE:
            room, name = int(share * _PLOT[2] / _CHARACTER), printable(" ".join(phase.name.split()))
            name = name if len(name) <= room else f"{name[: room - 1]}…"
            _write(axes, (start + end) / 2, 1.03, name, color=_PAINT["muted"], fontsize=_TEXT, gid="phase")


def _draw_marks(axes: Axes, marks: Sequence[Mark], last: int) -> None:
    for mark in _apart(marks, _MARK_GAP * last, of_kind=True):
        look = {"linestyle": (0, _DASHES[mark.kind]), "linewidth": 0.9, "alpha": 0.8, "clip_on": False}
        axes.axvline(mark.step, color=_PAINT[mark.kind], gid=f"mark {mark.kind}", **look)
    for mark in _apart(marks, _LETTER * last, of_kind=False):
        color = _PAINT[mark.kind]
        box = {"boxstyle": "round,pad=0.25", "facecolor": _PAINT["card"], "edgecolor": color, "linewidth": 0.7}
        _write(axes, mark.step, 0.94, mark.letter, color=color, fontsize=7, weight="bold", bbox=box, gid="letter")


def _write(axes: Axes, step: float, height: float, text: str, **look: Any) -> None:
    """Centres ``text`` over a step. height: share of the plot's."""
    axes.text(step, height, text, ha="center", va="baseline", transform=axes.get_xaxis_transform(), **look)


def _apart(marks: Sequence[Mark], gap: float, of_kind: bool) -> list[Mark]:
    """The marks that are at least ``gap`` steps after the last one kept, of their own kind or of any kind."""
    kept: dict[str, list[Mark]] = {}
    for mark in marks:
        before = kept.setdefault(mark.kind if of_kind else "", [])
        if not before or mark.step - before[-1].step >= gap:
            before.append(mark)
    return [mark for kind in kept.values() for mark in kind]


def _for_the_page(svg: str) -> str:
    """The SVG element alone, with classes in place of ids (which would occur twice on a page), CSS variables in place
    of colours, and three decimals in its paths."""
    svg = re.sub(r">\s+<", "><", svg[svg.index("<svg") :]).replace('<g id="', '<g class="')
    svg = re.sub(r"<svg [^>]*?(viewBox=[^>]*?) xmlns[^>]*>", r"<svg \1>", svg, count=1)
    svg = re.sub(": #0000([0-9a-f]{2})", lambda match: f": var(--{_COLORS[int(match[1], 16) - 1]})", svg)
    shorten = lambda match: re.sub(r"(\.\d{3})\d+", r"\1", match[0]).replace(" \n", "")
    return re.sub(r' d="[^"]*"', shorten, svg)
