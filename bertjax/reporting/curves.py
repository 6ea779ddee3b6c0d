"""Which charts a run gets: those of a table, and one for each score that only its evaluations know."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertjax.reporting.charts import Chart, Line, Mark, draw
from bertjax.reporting.record import Metrics, Record, count, is_of, loss_parts
from bertjax.reporting.wording import objective_words, percent, short, title

_LOSS = Chart("Loss", "loss", "nats")
_SQUARED_ERROR = Chart("Loss, squared error", "loss")  # of regression
MACHINE = (
    Chart("Learning rate", "learning_rate", averaged=False),
    Chart("Gradient norm", "grad_norm", may_be_log=True),
    Chart("Throughput, tokens a second", "tokens_per_second", show=short),
    Chart("Model FLOPs utilisation", "mfu", "%", percent),
    Chart("Padding", "padding_fraction", "%", percent),
    Chart("Loss scale", "loss_scale", show=short, may_be_log=True, averaged=False, dull=1.0),
)
# Fields of eval rows that are not scores, or that have a chart above; those of the objective come on top.
_NOT_SCORES = {"step", "loss", "seconds", "unigram_loss"} | {chart.field for chart in MACHINE}
_MOST_SCORES = 8
_MOST_NAMED_PHASES = 6

# Event of a row -> its look, its letter, and words for the legend.
_MARKS = {
    "resumed": ("resumed", "R", "resumed"),
    "went back": ("rollback", "B", "rolled back"),
    "skipped": ("skipped", "S", "step skipped"),
}
_OTHER = ("other", "E", "other event")
_BEST = ("best", "★", "best evaluation, which became the model")


def learning_curves(record: Record) -> list[dict]:
    train, held_out = record.metrics.train.names(), record.metrics.held_out.names()
    parts = loss_parts([*train, *held_out])
    losses = [chart for part in parts for chart in _objective_charts(part)]
    losses = losses or [_SQUARED_ERROR if record.config.get("task") == "regression" else _LOSS]
    others = [name for name in held_out if name not in _NOT_SCORES and not any(is_of(part, name) for part in parts)]
    scores = [Chart(title(name), name, from_zero=False) for name in others]
    return drawn((*losses, *scores[:_MOST_SCORES]), record, record.others)


def _objective_charts(part: str) -> tuple[Chart, Chart]:
    """Loss and accuracy of a part of a pretraining loss, beside the baseline that its evaluations record."""
    words, loss, accuracy = objective_words(part), f"{part}_loss", f"{part}_accuracy"
    words, is_mlm = words[:1].upper() + words[1:], part == "mlm"
    dull = None if is_mlm else 0.0
    unigram = ("unigram", "unigram_loss") if is_mlm else None
    chance = ("chance", f"{part}_chance")
    return (
        Chart(f"{words} loss", loss, "nats", from_zero=not is_mlm, baseline=unigram, dull=dull),
        Chart(f"{words} accuracy", accuracy, "%", percent, baseline=chance, dull=dull),
    )


def phase_legend(record: Record) -> list[tuple[bool, str, str]]:
    """(shaded, name, last step) of each phase."""
    ends = [(phase.name, min(phase.end, record.metrics.last_step)) for phase in record.phases]
    if len(ends) > _MOST_NAMED_PHASES:
        return [(True, f"{len(ends)} phases", "")]
    return [(index % 2 > 0, name, f"{end:,}") for index, (name, end) in enumerate(ends) if end]


def mark_legend(record: Record) -> list[tuple[str, str, str]]:
    """(look, letter, words) of each kind of mark."""
    return list(dict.fromkeys((mark.kind, mark.letter, mark.words) for mark in _marks(record)))


def mark_of(event: dict[str, Any]) -> tuple[str, str, str]:
    """(look, letter, words) of an event's row."""
    name = event.get("event")
    return _MARKS.get(name, _OTHER) if isinstance(name, str) else _OTHER


def _marks(record: Record) -> list[Mark]:
    """Events, then the best evaluation if the curves reach it. Events before the first step are only in their table."""
    marks = [Mark(event["step"], *mark_of(event)) for event in record.metrics.events if event["step"]]
    best = count(record.summary.get("best_step"))
    return [*marks, Mark(best, *_BEST)] if best is not None and best <= record.metrics.last_step else marks


def drawn(charts: Sequence[Chart], record: Record, others: Sequence[Metrics] = ()) -> list[dict]:
    last = max(1, *(metrics.last_step for metrics in (record.metrics, *others)))
    marks = sorted(_marks(record), key=lambda mark: mark.step)
    found = []
    for chart in charts:
        lines = _lines(chart, record.metrics, others, last)
        if any(chart.dull is None or np.any(line.finite() != chart.dull) for line in lines):
            found.append(draw(chart, lines, last, record.phases, marks))
    return found


def _lines(chart: Chart, own: Metrics, others: Sequence[Metrics], last: int) -> list[Line]:
    train, held_out = own.train, own.held_out
    wanted = [("other runs, held out", "others", other.held_out, chart.field) for other in others]
    wanted += [("training", "train", train, chart.field), ("held out", "held-out", held_out, chart.field)]
    if chart.baseline:
        wanted.append((chart.baseline[0], "baseline", held_out, chart.baseline[1]))
    found = []
    for name, role, columns, field in wanted:
        steps, values = columns.values(field)
        if role == "baseline" and len(values):  # it also holds before its first value and after its last
            known = values[np.isfinite(values)]
            steps = np.concatenate([[0.0], steps, [float(last)]])
            values = np.concatenate([known[:1], values, known[-1:]])
        if len(values):
            found.append(Line(name, role, steps, values))
    return found
