"""report.html: a run as one page that anybody can open. It is made from the files of the workdir alone.

The page is one file without network: curves drawn as SVG, tables, and a short script that only adds tooltips. Equal
files give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bertjax.unfinished import write_whole

FILE = "report.html"


def write_report(workdir: str | Path, ended: str | None = None) -> Path:
    """Writes ``workdir/report.html`` from config.json, metrics.jsonl and summary.json, as far as they are there.

    ended: why the run is over before its end, in words; None where it goes on or is finished. Whatever is damaged or
    missing is left out, and the page says so. Raises OSError where the page cannot be written.
    """
    from bertjax.reporting.page import render_page
    from bertjax.reporting.record import read_record

    path = Path(workdir) / FILE
    page = render_page(read_record(Path(workdir)), ended)
    write_whole(path, page)
    return path


def refresh_report(workdir: str | Path, say: Callable[[str], None], ended: str | None = None) -> None:
    """``write_report`` for the middle of a run, which it never harms: what goes wrong becomes one line for ``say``."""
    if not Path(workdir).is_dir():  # somebody has removed or moved it, which ends the run
        return
    try:
        write_report(workdir, ended)
    except Exception as error:  # the run is worth more than its page
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        say(f"warning: {Path(workdir) / FILE} could not be written ({reason}); the run is not affected")
