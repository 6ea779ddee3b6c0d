"""The figures of a run in tables: scores over its runs, its events, its config and what it ran on."""

from __future__ import annotations

import json
from typing import Any

from bertjax.reporting.curves import mark_of
from bertjax.reporting.markup import Element, node
from bertjax.reporting.record import Record, count, listing, mapping, number, numbers
from bertjax.reporting.wording import figure, size, title

_MOST_EVENTS = 60
_MOST_RUNS = 200
_LONGEST_VALUE = 400


def scores(summary: dict[str, Any]) -> Element | None:
    """Scores of every run with their mean and spread; of a single run, its scores."""
    names = list(numbers(summary.get("scores")))
    runs = [mapping(run) for run in listing(summary.get("runs"))][:_MOST_RUNS]
    names += [name for run in runs for name in numbers(run.get("scores"))]
    names = list(dict.fromkeys(names))
    main = summary.get("main_score")
    if main in names:
        names.remove(main)
        names.insert(0, main)
    if not names:
        return None
    settings = list(dict.fromkeys(name for run in runs for name in run if number(run[name]) is not None))
    rows = [
        node("tr", [_number_cell(run.get(name)) for name in settings], _score_cells(run.get("scores"), names))
        for run in runs
    ]
    if not rows:
        rows = [node("tr", _score_cells(summary.get("scores"), names))]
    for name in ("mean", "spread"):
        if runs and numbers(summary.get(name)):
            label = node("th", name, scope="row", colspan=len(settings)) if settings else None
            rows.append(node("tr", label, _score_cells(summary.get(name), names), class_="total"))
    head = [node("th", title(name), scope="col") for name in settings]
    head += [node("th", title(name), scope="col", class_="main" if name == main else None) for name in names]
    table = node("table", node("thead", node("tr", head)), node("tbody", rows), class_="numbers")
    return node("div", table, class_="wide")


def events(record: Record) -> list[Element]:
    """What happened to the run beside its steps, newest last."""
    rows = record.metrics.events
    if not rows:
        return []
    left_out = len(rows) - _MOST_EVENTS
    body = []
    for event in rows[-_MOST_EVENTS:]:
        kind, letter, words = mark_of(event)
        name = event.get("event")
        body.append(
            node(
                "tr",
                node("td", f"{event['step']:,}", class_="number"),
                node("td", node("i", letter, class_=f"letter {kind}"), " ", words if kind != "other" else str(name)),
                node("td", _details(event)),
            )
        )
    head = node("tr", node("th", "after step"), node("th", "what"), node("th", "details"))
    table = node("div", node("table", node("thead", head), node("tbody", body)), class_="wide")
    note = node("p", f"{left_out:,} earlier ones are left out.", class_="note") if left_out > 0 else None
    return [table, *([note] if note is not None else [])]


def config(record: Record) -> Element | None:
    """The config, a section in a section; closed at first."""
    if not record.config:
        return None
    return node("details", node("summary", "All keys"), _tree(record.config), class_="config")


def environment(record: Record) -> Element | None:
    """Devices, memory, versions and fingerprints."""
    devices = mapping(record.summary.get("devices"))
    peak = numbers(record.summary.get("peak_memory"))
    versions = mapping(record.summary.get("versions")) or mapping(record.recorded.get("versions"))
    corpus = mapping(record.recorded.get("corpus"))
    rows = {
        "devices": " ".join(f"{devices.get(name, '')}" for name in ("count", "platform")).strip(),
        "kind of device": devices.get("kind"),
        "peak memory of the host": size(peak["host_bytes"]) if "host_bytes" in peak else None,
        "peak memory of a device": size(peak["device_bytes"]) if "device_bytes" in peak else None,
        "corpus": corpus.get("path"),
        "fingerprint of the corpus": corpus.get("fingerprint"),
        "fingerprint of the config": record.recorded.get("identity_fingerprint"),
    } | versions
    shown = {name: value for name, value in rows.items() if value not in (None, "")}
    return _pairs(shown) if shown else None


def _score_cells(values: Any, names: list[str]) -> list[Element]:
    return [_number_cell(mapping(values).get(name)) for name in names]


def _number_cell(value: Any) -> Element:
    known = number(value)
    if known is None:
        return node("td", "–")
    return node("td", str(value) if count(value) is not None else figure(known))


def _details(event: dict[str, Any]) -> list[Element | str]:
    rest = {name: value for name, value in event.items() if name not in ("kind", "event", "step")}
    return [f"{title(name)}: {_plain(value)} " for name, value in rest.items() if value is not None]


def _tree(section: dict[str, Any]) -> Element:
    """Plain values first, then the sections, each to be opened."""
    plain = {name: value for name, value in section.items() if not isinstance(value, dict)}
    sections = {name: value for name, value in section.items() if isinstance(value, dict)}
    return node(
        "div",
        _pairs(plain) if plain else None,
        [node("details", node("summary", name), _tree(value), open="") for name, value in sections.items()],
    )


def _pairs(values: dict[str, Any]) -> Element:
    rows = [node("div", node("dt", name), node("dd", node("bdi", _plain(value)))) for name, value in values.items()]
    return node("dl", rows)


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} …"
