"""What the page's tables show: scores, costs, confused classes, and what the run ran on."""

from collections.abc import Iterable, Mapping
from typing import Any

from bertjax.reporting.record import Record, count, is_of, listing, loss_parts, mapping, number, numbers
from bertjax.reporting.wording import duration, figure, objective_words, percent, short, size, title

_MOST_RUNS = 200
_MOST_CONFUSIONS = 10
_COSTS = {
    "real_tokens": ("real tokens", short),
    "seconds": ("time", duration),
    "tokens_per_second": ("tokens a second", short),
    "mfu": ("FLOPs utilisation", percent),
    "padding_fraction": ("padding", percent),
}


def key_figures(record: Record) -> list[tuple[str, str, str]]:
    """(name, value, remark): scores first, then what they took."""
    summary, train = record.summary, record.metrics.train
    tiles: list[tuple[str, str, str]] = []
    spread, runs = numbers(summary.get("spread")), listing(summary.get("runs"))
    for name, value in numbers(summary.get("mean") or summary.get("scores")).items():
        remark = f"mean of {len(runs):,} runs, ± {figure(spread[name])}" if name in spread else ""
        tiles.append((title(name), figure(value), remark))
    tiles += _objective_figures(record)
    if not tiles and (loss := train.last("loss")) is not None:
        tiles.append(("training loss", figure(loss), ""))
    if steps := record.step or count(summary.get("steps")):
        tiles.append(("steps", f"{steps:,}", ""))
    if (examples := numbers(summary.get("examples")).get("train")) is not None:
        tiles.append(("training examples", short(examples), ""))
    costs = numbers({name: train.last(name) for name in _COSTS}) | numbers(summary)
    return tiles + [(words, show(costs[name]), "") for name, (words, show) in _COSTS.items() if name in costs]


def _objective_figures(record: Record) -> list[tuple[str, str, str]]:
    """The held-out figures of a pretraining objective, from the fields NAME_loss, NAME_accuracy, NAME_chance,
    NAME_pairs and NAME_..._share of each part of its loss."""
    summary, held_out = record.summary, record.metrics.held_out
    scored = numbers(summary.get("held_out"))
    last = numbers({name: held_out.last(name) for name in held_out.names()}) | numbers(summary) | scored
    text = "training text" if summary.get("held_out_kind") == "copy" else "held out"
    tiles = []
    for part in loss_parts(last):
        words = objective_words(part)
        if part == "mlm":  # its accuracy has no chance; the loss of a pair of labels says nothing that theirs does not
            remark = f", unigram {figure(unigram)}" if (unigram := last.get("unigram_loss")) else ""
            tiles.append((f"{words} loss", figure(last[f"{part}_loss"]), text + remark))
        remark = f", chance {percent(chance)}" if (chance := last.get(f"{part}_chance")) else ""
        if remark and (pairs := last.get(f"{part}_pairs")):
            shares = [name for name in last if is_of(part, name) and name.endswith("_share")]
            named = ", ".join(f"{percent(last[name])} {title(name[len(part) + 1 : -6])}" for name in shares)
            remark += f" of {pairs:,.0f} pairs" + (f", {named}" if named else "")
        tiles.append((f"{words} accuracy", percent(last[f"{part}_accuracy"]), text + remark))
    return tiles


def columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys of all rows, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def scores(summary: dict[str, Any]) -> dict[str, Any]:
    """``rows``: (label of a total or None, values) of every run or of the only one. ``settings``, ``names``: the
    columns, with ``main`` first among the names."""
    main = summary.get("main_score")
    runs = [mapping(run) for run in listing(summary.get("runs"))][:_MOST_RUNS]
    rows = [(None, {**run, **mapping(run.get("scores"))}) for run in runs] or [(None, mapping(summary.get("scores")))]
    rows += [(name, summary[name]) for name in ("mean", "spread") if runs and numbers(summary.get(name))]
    names = columns(numbers(entry.get("scores")) for entry in (summary, *runs))
    names.sort(key=lambda name: name != main)
    return {"main": main, "names": names, "settings": columns(map(numbers, runs)), "rows": rows}


def confusion(summary: dict[str, Any]) -> dict[str, Any]:
    """``names``, ``counts``: labels and the matrix, rows by true label; no counts if the summary has no such matrix.
    ``frequent``: the most frequent confusions, (true label, predicted label, count, share of the true label)."""
    names = [str(label) for label in listing(summary.get("labels"))]
    counts = listing(summary.get("confusion"))
    if not all(isinstance(row, list) and len(row) == len(counts) and None not in map(count, row) for row in counts):
        counts = []
    names += map(str, range(len(names), len(counts)))
    frequent = [
        (names[true], names[predicted], cell, cell / sum(row))
        for true, row in enumerate(counts)
        for predicted, cell in enumerate(row)
        if cell and true != predicted and len(counts) > 2
    ]
    frequent.sort(key=lambda entry: -entry[2])
    for entry in map(mapping, [] if counts else listing(summary.get("confusions"))):  # of thousands of labels
        cell, share = count(entry.get("count")), number(entry.get("share"))
        if cell is not None and share is not None:
            frequent.append((str(entry.get("label")), str(entry.get("predicted")), cell, share))
    return {"names": names, "counts": counts, "frequent": frequent[:_MOST_CONFUSIONS]}


def environment(record: Record) -> dict[str, Any]:
    """Devices, memory, versions and fingerprints."""
    devices = mapping(record.summary.get("devices"))
    peak = numbers(record.summary.get("peak_memory"))
    corpus = mapping(record.recorded.get("corpus"))
    values = {
        "devices": " ".join(f"{devices.get(name, '')}" for name in ("count", "platform")).strip(),
        "device kind": devices.get("kind"),
        "peak memory of the host": size(peak["host_bytes"]) if "host_bytes" in peak else None,
        "peak memory of a device": size(peak["device_bytes"]) if "device_bytes" in peak else None,
        "corpus": corpus.get("path"),
        "corpus fingerprint": corpus.get("fingerprint"),
        "config fingerprint": record.recorded.get("identity_fingerprint"),
    }
    values |= mapping(record.summary.get("versions")) or mapping(record.recorded.get("versions"))
    return {name: value for name, value in values.items() if value not in (None, "")}
