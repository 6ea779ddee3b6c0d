"""The whole page: heading, key figures, and the sections in the order they are wanted."""

from __future__ import annotations

import base64
import hashlib

from bertjax.reporting import classes, curves, tables
from bertjax.reporting.markup import Child, Element, node, render
from bertjax.reporting.record import Record, count, listing, number, numbers
from bertjax.reporting.style import CSS, SCRIPT
from bertjax.reporting.wording import duration, figure, percent, short, title

_LONGEST_REASON = 600
# Key figures of an evaluation while pretraining: field -> name and how its values are written.
_HELD_OUT = {
    "mlm_loss": ("masked-LM loss", figure),
    "mlm_accuracy": ("masked-LM accuracy", percent),
    "nsp_accuracy": ("next-sentence accuracy", percent),
}


def render_page(record: Record, ended: str | None = None) -> str:
    """The HTML of a report. ended: see ``write_report``."""
    learning, machine = curves.learning(record), curves.machine(record)
    main = node(
        "main",
        _heading(record, ended),
        _section("Learning", curves.legend(record) if learning else None, _grid(learning)),
        _section("Scores", tables.scores(record.summary)),
        _section("Confusion matrix", classes.confusion_matrix(record.summary)),
        _section("Classes", classes.per_class(record.summary)),
        _section("Errors", classes.error_examples(record.summary)),
        _section("Training", _grid(machine)),
        _section("Events", tables.events(record)),
        _section("Config", tables.config(record)),
        _section("Environment", tables.environment(record)),
    )
    # No part of the page may reach out, and no script runs but the page's own.
    script = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script}'"
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", http_equiv="Content-Security-Policy", content=policy),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", name="color-scheme", content="light dark"),
        node("title", f"{record.name} - bertjax"),
        node("link", rel="icon", href="data:,"),
        node("style", CSS),
    )
    return render(node("html", head, node("body", main, node("script", SCRIPT)), lang="en"))


def _heading(record: Record, ended: str | None) -> Element:
    step, total = record.step, record.total_steps
    of_all = f"step {step:,}" + (f" of {total:,}" if total else "")
    if record.summary:
        kind, state = "finished", "finished"
    elif ended is not None:
        kind, state = "stopped", f"ended at {of_all}"
    else:
        kind, state = "running", f"at {of_all}"
    bar = node("progress", value=min(step, total), max=total) if total and kind != "finished" else None
    tiles = [node("div", node("dt", name), node("dd", value)) for name, value in _key_figures(record)]
    return node(
        "header",
        node("h1", node("bdi", record.name)),
        node("p", node("span", state, class_=f"state {kind}"), bar),
        node("p", " ".join(ended.split())[:_LONGEST_REASON], class_="remark") if ended and kind == "stopped" else None,
        node("dl", tiles, class_="tiles") if tiles else None,
        [node("p", f"Note: {remark}.", class_="remark") for remark in record.remarks],
    )


def _key_figures(record: Record) -> list[tuple[str, Child]]:
    """(name, value): scores first, then what they took."""
    summary, metrics = record.summary, record.metrics
    tiles: list[tuple[str, Child]] = []
    spread, runs = numbers(summary.get("spread")), listing(summary.get("runs"))
    for name, value in numbers(summary.get("mean") or summary.get("scores")).items():
        beside = f"mean of {len(runs):,} runs, ± {figure(spread[name])}" if name in spread else ""
        tiles.append((title(name), [figure(value), _small(beside)]))
    last = {name: metrics.held_out.last(name) for name in _HELD_OUT}
    held_out = {name: value for name, value in last.items() if value is not None} | numbers(summary.get("held_out"))
    unigram = number(summary.get("unigram_loss")) or metrics.held_out.last("unigram_loss")
    chance = number(summary.get("nsp_chance")) or metrics.held_out.last("nsp_chance")
    what = "training text" if summary.get("held_out_kind") == "copy" else "held out"
    beside = {
        "mlm_loss": f", unigram {figure(unigram)}" if unigram else "",
        "nsp_accuracy": f", chance {percent(chance)}{_of_pairs(record)}" if chance else "",
    }
    for name, (words, show) in _HELD_OUT.items():
        if name in held_out:
            tiles.append((words, [show(held_out[name]), _small(what + beside.get(name, ""))]))
    if not tiles and (loss := metrics.train.last("loss")) is not None:
        tiles.append(("training loss", figure(loss)))
    return tiles + _costs(record)


def _of_pairs(record: Record) -> str:
    """The pairs that the chance of next-sentence accuracy is of; runs of before do not tell."""
    told = lambda name: number(record.summary.get(name)) or record.metrics.held_out.last(name)
    pairs, share = told("nsp_pairs"), told("nsp_next_share")
    return f" of {pairs:,.0f} pairs, {percent(share)} real next ones" if pairs and share is not None else ""


def _costs(record: Record) -> list[tuple[str, Child]]:
    summary, train = record.summary, record.metrics.train
    known = numbers(summary)
    take = lambda name: known.get(name, train.last(name))
    found: list[tuple[str, Child]] = []
    if steps := record.step or count(summary.get("steps")):
        found.append(("steps", f"{steps:,}"))
    if (examples := numbers(summary.get("examples")).get("train")) is not None:
        found.append(("training examples", short(examples)))
    if (tokens := known.get("real_tokens")) is not None:
        found.append(("real tokens", short(tokens)))
    if (seconds := take("seconds")) is not None:
        found.append(("time", duration(seconds)))
    if (speed := take("tokens_per_second")) is not None:
        found.append(("tokens a second", short(speed)))
    if (mfu := train.last("mfu")) is not None:
        found.append(("FLOPs utilisation", percent(mfu)))
    if (padding := take("padding_fraction")) is not None:
        found.append(("padding", percent(padding)))
    return found


def _section(name: str, *content: Child) -> Element | None:
    """A section with a heading; None where there is nothing in it."""
    section = node("section", node("h2", name), content)
    return section if len(section) > 1 else None


def _grid(charts: list[Element]) -> Element | None:
    return node("div", charts, class_="grid") if charts else None


def _small(text: str) -> Element | None:
    return node("small", text) if text else None
