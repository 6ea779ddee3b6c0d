"""Which charts a run gets: a table, plus one for every score that only its evaluations know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertjax.reporting.charts import NATS, PLAIN, RATE, SHARE, Chart, Line, Mark, Scene, band_class, draw
from bertjax.reporting.markup import Element, node
from bertjax.reporting.record import Record, count
from bertjax.reporting.rows import Columns
from bertjax.reporting.wording import title

PRETRAINING = (
    Chart("Masked-LM loss", "mlm_loss", NATS, from_zero=False, baseline=("unigram", "unigram_loss")),
    Chart("Masked-LM accuracy", "mlm_accuracy", SHARE),
    Chart("Next-sentence loss", "nsp_loss", NATS, dull=0.0),
    Chart("Next-sentence accuracy", "nsp_accuracy", SHARE, baseline=("chance", "nsp_chance"), dull=0.0),
)
LOSS = Chart("Loss", "loss", NATS)
SQUARED_ERROR = Chart("Loss, squared error", "loss", PLAIN)  # of regression
MACHINE = (
    Chart("Learning rate", "learning_rate", PLAIN, averaged=False),
    Chart("Gradient norm", "grad_norm", PLAIN, may_be_log=True),
    Chart("Throughput, tokens a second", "tokens_per_second", RATE),
    Chart("Model FLOPs utilisation", "mfu", SHARE),
    Chart("Padding", "padding_fraction", SHARE),
    Chart("Loss scale", "loss_scale", RATE, may_be_log=True, averaged=False, dull=1.0),
)
# Of eval rows, what is no score.
_NO_SCORES = {"step", "loss", "seconds", "unigram_loss", "nsp_chance", "nsp_pairs", "nsp_next_share"} | {
    chart.field for chart in (*PRETRAINING, *MACHINE)
}
_MOST_SCORES = 8
_MOST_NAMED_BANDS = 6

# Event of a row -> how it is marked: class, letter, words for the legend.
MARKS = {
    "resumed": ("resumed", "R", "started again"),
    "went back": ("setback", "B", "went back"),
    "skipped": ("skipped", "S", "step skipped"),
}
_OTHER = ("other", "E", "other event")
BEST = ("best", "★", "best evaluation, which became the model")


def learning(record: Record) -> list[Element]:
    """The charts of what the model learns."""
    metrics = record.metrics
    own = (SQUARED_ERROR if record.config.get("task") == "regression" else LOSS,)
    losses = PRETRAINING if metrics.train.fields.get("mlm_loss") or metrics.held_out.fields.get("mlm_loss") else own
    scores = [
        Chart(title(name), name, PLAIN, from_zero=False) for name in metrics.held_out.fields if name not in _NO_SCORES
    ]
    return _drawn((*losses, *scores[:_MOST_SCORES]), record, compared=True)


def machine(record: Record) -> list[Element]:
    """The charts of how the run does."""
    return _drawn(MACHINE, record, compared=False)


def legend(record: Record) -> Element | None:
    """What the bands and the marks mean, for those that there are."""
    last = record.metrics.last_step
    bands = [
        node("span", node("i", class_=f"key-band {band_class(index)}"), node("bdi", band.name), f" to step {end:,}")
        for index, band in enumerate(record.bands)
        if (end := min(band.end, last))
    ]
    kinds = dict.fromkeys(mark_of(event) for event in _marked(record))
    if _best(record) is not None:
        kinds[BEST] = None
    marks = [node("span", node("i", letter, class_=f"letter {kind}"), f" {words}") for kind, letter, words in kinds]
    if len(bands) > _MOST_NAMED_BANDS:
        bands = [node("span", f"{len(bands)} phases as bands")]
    return node("p", bands, marks, class_="legend") if bands or marks else None


def _best(record: Record) -> int | None:
    """The step of the best evaluation, where the curves come so far."""
    best = count(record.summary.get("best_step"))
    return best if best is not None and best <= record.metrics.last_step else None


def mark_of(event: dict[str, Any]) -> tuple[str, str, str]:
    """(class, letter, words) for an event's row."""
    name = event.get("event")
    return MARKS.get(name, _OTHER) if isinstance(name, str) else _OTHER


def _marked(record: Record) -> list[dict[str, Any]]:
    """The events that stand in the curves: what was said before the first step is in the table of events alone."""
    return [event for event in record.metrics.events if event["step"]]


def _drawn(charts: Sequence[Chart], record: Record, compared: bool) -> list[Element]:
    last = max(1, *(metrics.last_step for metrics in (record.metrics, *(record.others if compared else ()))))
    marks = [Mark(event["step"], *mark_of(event)[:2]) for event in _marked(record)]
    if (best := _best(record)) is not None:
        marks.append(Mark(best, *BEST[:2]))
    scene = Scene(last, record.bands, sorted(marks, key=lambda mark: mark.step))
    found = []
    for chart in charts:
        lines = _lines(chart, record, last, compared)
        if lines and not all(_dull(line.values, chart.dull) for line in lines):
            found.append(draw(chart, lines, scene))
    return found


def _lines(chart: Chart, record: Record, last: int, compared: bool) -> list[Line]:
    metrics = record.metrics
    wanted: list[tuple[str, str, Columns, str]] = [
        ("training", "train", metrics.train, chart.field),
        ("held out", "held-out", metrics.held_out, chart.field),
    ]
    if chart.baseline:
        wanted.append((chart.baseline[0], "baseline", metrics.held_out, chart.baseline[1]))
    if compared:
        wanted = [("other runs, held out", "others", other.held_out, chart.field) for other in record.others] + wanted
    lines = [Line(name, role, *columns.values(field)) for name, role, columns, field in wanted]
    return [_all_along(line, last) if line.role == "baseline" else line for line in lines if len(line.values)]


def _all_along(line: Line, last: int) -> Line:
    """A baseline holds before its first value and after its last, too."""
    known = line.values[np.isfinite(line.values)]
    steps = np.concatenate([[0.0], line.steps, [float(last)]])
    return Line(line.name, line.role, steps, np.concatenate([known[:1], line.values, known[-1:]]))


def _dull(values: np.ndarray, dull: float | None) -> bool:
    return dull is not None and bool(np.all(values[np.isfinite(values)] == dull))
