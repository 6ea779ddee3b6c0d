"""Fills the page's template."""

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bertjax.reporting import curves, tables, wording
from bertjax.reporting.record import Record, listing, mapping, number

_LONGEST_REASON = 600
_FOLDER = Path(__file__).parent


def render_page(record: Record, ended: str | None = None) -> str:
    """The HTML of a report. ended: see ``write_report``."""
    style, script = ((_FOLDER / name).read_text("utf-8") for name in ("report.css", "report.js"))
    summary = record.summary
    return _template().render(
        record=record,
        **_state(record, ended),
        tiles=tables.key_figures(record),
        learning=curves.learning_curves(record),
        phases=curves.phase_legend(record),
        marks=curves.mark_legend(record),
        scores=tables.scores(summary),
        confusion=tables.confusion(summary),
        classes=[item for item in mapping(summary.get("per_class")).items() if isinstance(item[1], dict)],
        errors=[entry for entry in listing(summary.get("errors")) if isinstance(entry, dict)],
        machine=curves.drawn(curves.MACHINE, record),
        environment=tables.environment(record),
        style=Markup(style),
        script=Markup(script),
        # The page's own script is the only one that the browser may run.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


@functools.cache
def _template() -> jinja2.Template:
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else wording.printable(str(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"columns": tables.columns, "mark_of": curves.mark_of, "number": number, "words": wording.title}
    pages.filters |= {name: getattr(wording, name) for name in ("cell", "figure", "percent", "text")}
    return pages.get_template("report.html.jinja")


def _state(record: Record, ended: str | None) -> dict[str, Any]:
    """``state``: running, stopped or finished. ``reason``: why it has stopped. ``total``: of the progress bar, or 0."""
    if record.summary:
        return {"state": "finished", "state_text": "finished", "reason": "", "total": 0}
    total, reason = record.total_steps or 0, " ".join((ended or "").split())[:_LONGEST_REASON]
    at = f"at step {record.step:,}" + (f" of {total:,}" if total else "")
    state, text = ("running", at) if ended is None else ("stopped", f"ended {at}")
    return {"state": state, "state_text": text, "reason": reason, "total": total}
