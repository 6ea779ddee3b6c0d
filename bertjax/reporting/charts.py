"""Draws one chart: lines over steps, with the phases as bands and what happened to the run as marks.

The plot is an SVG that is stretched to whatever room there is; words and ticks lie over it as ordinary text, so that
they keep their size on a telephone and on paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bertjax.reporting.axes import Axis, step_axis, value_axis
from bertjax.reporting.markup import Element, node
from bertjax.reporting.record import Band
from bertjax.reporting.thinning import MANY, thinned, windowed_means
from bertjax.reporting.wording import compact, figure, percent, powered, short

# The plot's own units, stretched to the room there is.
_WIDTH, _HEIGHT = 1000, 1000
# Share of the plot's width that a name or a letter needs.
_BAND_NAME, _LETTER = 0.15, 0.035
# Marks of one kind closer together than this are drawn as one.
_MARK_GAP = 1 / 400
# A line with no more points than this shows each of them.
_DOTTED = 40


@dataclass(frozen=True)
class Unit:
    """``factor``: from the stored number to the one on the axis. ``show``: a stored number in words."""

    name: str
    factor: float
    show: Callable[[float], str]


NATS = Unit("nats", 1.0, figure)
SHARE = Unit("%", 100.0, percent)
PLAIN = Unit("", 1.0, figure)
RATE = Unit("", 1.0, short)


@dataclass(frozen=True)
class Chart:
    """``field``: of the rows. ``averaged``: a long, noisy line gets a mean. ``baseline``: (name, field of the eval
    rows). ``dull``: where nothing else is ever seen, there is no chart."""

    title: str
    field: str
    unit: Unit
    from_zero: bool = True
    may_be_log: bool = False
    averaged: bool = True
    baseline: tuple[str, str] | None = None
    dull: float | None = None


@dataclass(frozen=True)
class Line:
    """``role``: the look - train, held-out, others or baseline. ``steps``, ``values``: float64, NaN is a gap."""

    name: str
    role: str
    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Mark:
    """Something that happened after step ``step``. ``kind``: the look; ``letter``: what stands for it."""

    step: int
    kind: str
    letter: str


@dataclass(frozen=True)
class Scene:
    """What all charts of a page have in common."""

    last: int
    bands: Sequence[Band]
    marks: Sequence[Mark]


def draw(chart: Chart, lines: Sequence[Line], scene: Scene) -> Element:
    """A figure of ``lines``, each with at least one finite value."""
    title, unit = chart.title, chart.unit
    across = step_axis(scene.last)
    finite = np.concatenate([line.values[np.isfinite(line.values)] for line in lines])
    up = value_axis(finite, chart.from_zero, chart.may_be_log)
    shown = list({line.name: line for line in lines}.values())
    svg = node(
        "svg",
        [_band(band, index, scene.last) for index, band in enumerate(scene.bands)],
        [_rule(_HEIGHT * (1 - y), "grid") for y in up.place(np.asarray(up.ticks))],
        [_mark(mark, scene.last) for mark in _apart(scene.marks, scene.last, _MARK_GAP)],
        [shape for line in lines for shape in _shapes(line, across, up, chart.averaged)],
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{title}. " + " ".join(_in_words(line, unit) for line in shown),
        data_last=across.high,
        data_range=f"{up.low!r} {up.high!r}",
        data_log="1" if up.log else None,
        data_percent="1" if unit is SHARE else None,
    )
    return node(
        "figure",
        node(
            "figcaption", node("strong", title), f" {unit.name}" if unit.name else None, node("div", _keys(shown, unit))
        ),
        node(
            "div",
            svg,
            _band_names(scene),
            _letters(scene),
            [node("span", text, class_="y", style=_at("bottom", at)) for at, text in _value_ticks(up, unit)],
            [node("span", text, class_="x", style=_at("left", at)) for at, text in _step_ticks(across)],
            class_="plot",
        ),
        class_="chart",
    )


def _keys(lines: Sequence[Line], unit: Unit) -> list[Element]:
    """The legend: how each line looks, and its last value."""
    names = [line.name for line in lines] if len(lines) > 1 else ["last"]
    return [
        node(
            "span",
            node("i", class_=f"key {line.role}"),
            name,
            node("b", f" {unit.show(_last(line))}") if line.role != "others" else None,
        )
        for line, name in zip(lines, names, strict=True)
    ]


def band_class(index: int) -> str:
    """How the band of phase ``index`` looks: they alternate."""
    return "odd" if index % 2 else "even"


def _shapes(line: Line, across: Axis, up: Axis, averaged: bool) -> list[Element]:
    kept = thinned(line.steps, line.values, across.high)
    few, many = len(kept) <= _DOTTED, averaged and line.role == "train" and len(kept) > MANY
    # Points with something that is no number between them are not joined.
    gaps = np.cumsum(~np.isfinite(line.values))[kept]
    path = _path(across.place(line.steps[kept]), up.place(line.values[kept]), gaps)
    faint = " faint" if many else ""
    shapes = [node("path", d=path, class_=f"line {line.role}{faint}", data_name=line.name)]
    if few and line.role in ("train", "held-out"):
        # A line of no length with round ends is a dot, however the plot is stretched.
        shapes.append(node("path", d=path.replace("L", "h0M") + "h0", class_=f"dots {line.role}"))
    if many:
        steps, values = windowed_means(line.steps, line.values, across.high)
        means = _path(across.place(steps), up.place(values), np.zeros(len(steps)))
        shapes.append(node("path", d=means, class_=f"mean {line.role}"))
    return shapes


def _path(x: np.ndarray, y: np.ndarray, gaps: np.ndarray) -> str:
    starts = np.diff(gaps, prepend=-1) != 0
    points = zip(starts.tolist(), (x * _WIDTH).tolist(), ((1 - y) * _HEIGHT).tolist(), strict=True)
    return "".join(f"{'M' if start else 'L'}{_brief(px)} {_brief(py)}" for start, px, py in points)


def _brief(value: float) -> str:
    """A tenth of a unit is a tenth of a percent of a percent of a plot's size: enough, and short."""
    return f"{value:.1f}".removesuffix(".0")


def _band(band: Band, index: int, last: int) -> Element:
    left, right = band.start / last, min(1.0, band.end / last)
    size = {"x": _brief(left * _WIDTH), "width": _brief(max(0.0, right - left) * _WIDTH), "y": 0, "height": _HEIGHT}
    return node("rect", class_=f"band {band_class(index)}", **size)


def _rule(y: float, kind: str) -> Element:
    return node("path", d=f"M0 {_brief(y)}H{_WIDTH}", class_=kind)


def _mark(mark: Mark, last: int) -> Element:
    return node("path", d=f"M{_brief(mark.step / last * _WIDTH)} 0V{_HEIGHT}", class_=f"mark {mark.kind}")


def _apart(marks: Sequence[Mark], last: int, gap: float, among_kinds: bool = True) -> list[Mark]:
    """Those marks that are not too close to the one kept before them, of their kind or of any."""
    kept: list[Mark] = []
    before: dict[str, float] = {}
    for mark in marks:
        key = mark.kind if among_kinds else ""
        if mark.step / last - before.get(key, -1.0) >= gap:
            kept.append(mark)
            before[key] = mark.step / last
    return kept


def _band_names(scene: Scene) -> list[Element]:
    found = []
    for band in scene.bands:
        left, width = band.start / scene.last, (min(band.end, scene.last) - band.start) / scene.last
        if band.name and width >= _BAND_NAME:
            found.append(node("span", band.name, class_="phase", style=f"left:{left:.2%};width:{width:.2%}"))
    return found


def _letters(scene: Scene) -> list[Element]:
    marks = _apart(scene.marks, scene.last, _LETTER, among_kinds=False)
    return [
        node("span", mark.letter, class_=f"letter {mark.kind}", style=_at("left", mark.step / scene.last))
        for mark in marks
    ]


def _value_ticks(axis: Axis, unit: Unit) -> list[tuple[float, str]]:
    places = axis.place(np.asarray(axis.ticks)).tolist()
    return [(at, tick_text(axis, tick, unit.factor)) for at, tick in zip(places, axis.ticks, strict=True)]


def _step_ticks(axis: Axis) -> list[tuple[float, str]]:
    places = axis.place(np.asarray(axis.ticks)).tolist()
    return [(at, tick_text(axis, tick, 1.0)) for at, tick in zip(places, axis.ticks, strict=True)]


def tick_text(axis: Axis, tick: float, factor: float) -> str:
    """What stands at a tick: as many decimals as tell it from its neighbours."""
    value, decimals = tick * factor, axis.decimals(factor)
    if value == 0:
        return "0"
    if axis.log or decimals > 3:
        return powered(value, 2) if abs(value) < 1e-2 else f"{value:g}" if value < 1e3 else compact(value)
    if axis.high * factor >= 1e4:
        return compact(value)
    return f"{value:,.{decimals}f}"


def _at(side: str, share: float) -> str:
    return f"{side}:{share:.2%}"


def _last(line: Line) -> float:
    return float(line.values[np.isfinite(line.values)][-1])


def _in_words(line: Line, unit: Unit) -> str:
    finite = np.flatnonzero(np.isfinite(line.values))
    first, last = finite[0], finite[-1]
    values = [unit.show(float(line.values[index])) for index in (first, last)]
    return f"{line.name}: {values[0]} at step {line.steps[first]:,.0f}, {values[1]} at step {line.steps[last]:,.0f}."
