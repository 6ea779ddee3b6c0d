"""The scores of a suite as a table."""

from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bertjax.cli.showing import plain
from bertjax.evaluation.suite import LEVEL
from bertjax.tasks.scores import score_title


def print_result(result: dict[str, Any], formats: dict[str, str], console: Console) -> None:
    """Prints what ``bertjax.evaluate.run`` returned. formats: score name -> format specification of its numbers."""
    model, data = result["model"] or "model", result["data"] or "data in memory"
    main = next(iter(result["scores"]))
    spec = lambda name: formats.get(name, ".4f")
    shown = lambda name: score_title(name, result["facts"].get("positive_label"))
    # Few lines between the columns: the longest names of BLiMP fit into 80 characters.
    title = Text(plain(f"{result['suite']}: {model} on {data}"))
    table = Table(box=SIMPLE, title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for name in ("score", f"{LEVEL:.0%} interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for heading, groups in reversed(result["groups"].items()):  # the finest first, the whole last
        table.add_row(Text(plain(f"{main} by {heading.replace('_', ' ')}")), style="italic")
        for group, score in groups.items():
            table.add_row(Text(plain(group)), *_cells(score, spec(main)))
        table.add_section()
    for name, score in result["scores"].items():
        table.add_row(Text(plain(shown(name))), *_cells(score, spec(name)), style="bold")
    for name in result.get("undefined", {}):
        table.add_row(Text(plain(shown(name))), "undefined", "", "", style="bold")
    console.print(table)
    for name, reason in result.get("undefined", {}).items():
        console.print(plain(f"{shown(name)} is undefined: {reason}"), markup=False, highlight=False)
    facts = (f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in _shown(result))
    console.print(plain("  ".join(facts).replace("_", " ")), markup=False, highlight=False)


def _cells(score: dict[str, Any], spec: str) -> tuple[str, str, str]:
    low, high = format(score["low"], spec), format(score["high"], spec)
    return format(score["value"], spec), f"{low} .. {high}", f"{score['count']:,}"


def _shown(result: dict[str, Any]) -> list[tuple[str, Any]]:
    return [*result["facts"].items(), ("seconds", f"{result['seconds']:.1f}")]
