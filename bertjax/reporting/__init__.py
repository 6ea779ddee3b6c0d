"""report.html: a run as one page that anybody can open, made from the files of its workdir alone.

The page is a single file that needs no network: a jinja2 template, charts that matplotlib draws as SVG, and a short
script that only adds tooltips. Equal files give equal bytes.
"""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

from bertjax.unfinished import write_whole

FILE = "report.html"


def write_report(workdir: str | Path, ended: str | None = None) -> Path:
    """Writes ``workdir/report.html`` from whatever there is of config.json, metrics.jsonl and summary.json.

    ended: why the run has stopped before its end, in words; None if it is running or finished. Damaged and missing
    files are left out, and the page says so. Raises OSError if the page cannot be written.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    # Matplotlib warns of its font cache, a read-only home, and letters that its font lacks; the browser chooses fonts.
    with warnings.catch_warnings(action="ignore"):
        logger.setLevel(logging.ERROR)
        try:
            from bertjax.reporting.page import render_page
            from bertjax.reporting.record import read_record

            page = render_page(read_record(Path(workdir)), ended)
        finally:
            logger.setLevel(level)
    path = Path(workdir) / FILE
    write_whole(path, page)
    return path


def refresh_report(workdir: str | Path, say: Callable[[str], None], ended: str | None = None) -> None:
    """``write_report`` while a run is going on: an error becomes a line for ``say`` and does not stop the run."""
    if not Path(workdir).is_dir():  # somebody has removed or moved it, which ends the run
        return
    try:
        write_report(workdir, ended)
    except Exception as error:  # the run is worth more than its page
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        say(f"warning: {Path(workdir) / FILE} could not be written ({reason}); the run is not affected")
