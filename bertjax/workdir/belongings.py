"""Which files of a workdir are the run's own. All others are never deleted, moved or overwritten.

A folder is a run's from its config.json on, which is the first file that a run writes. Its other files are known by
what is in them.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bertjax import unfinished
from bertjax.cluster.secret import FILE as SECRET
from bertjax.engine.checkpoint.step_folders import step_numbers
from bertjax.errors import ConfigError, ModelFileError
from bertjax.interop.exported import check_replaceable, is_without_record

LOCK = ".lock"
RUNS = "runs"  # of a search: one folder for each run
# What file systems and desktops put into every folder.
_IGNORED = ("lost+found", ".snapshot", ".DS_Store")
_MOST_BYTES = 64 << 20
_MOST_SHOWN = 3
# So much of a file tells whether it is one of ours.
_BEGINNING = 1 << 16


def check_workdir(workdir: Path) -> None:
    """Raises ConfigError if a run would have to share the folder with, or write over, what is not a run's. Reads only.
    A folder may be missing, empty, or hold only what a run left that never began."""
    if not workdir.is_dir():
        return
    try:
        there = {path.name: path for path in sorted(workdir.iterdir()) if not _is_ignored(path)}
        if there and not _holds_a_run(workdir):
            shown = ", ".join(itertools.islice(there, _MOST_SHOWN)) + ", ..." * (len(there) > _MOST_SHOWN)
            raise ConfigError(
                f"workdir {workdir} is not empty and holds no run of bertjax (it holds {shown}); nothing in it was "
                f"touched; use --workdir=ANOTHER_DIR"
            )
        foreign = [name for name, is_ours in _OURS.items() if name in there and not is_ours(there[name])]
    except OSError as error:
        raise ConfigError(f"workdir {workdir} cannot be read: {error.strerror or error}") from None
    if foreign:
        raise ConfigError(
            f"workdir {workdir} holds {foreign[0]}, which is not as bertjax wrote it, or not bertjax's at all, and "
            f"would be written over; move it away, or use --workdir=ANOTHER_DIR"
        )


def _holds_a_run(workdir: Path) -> bool:
    if _is_config(workdir / "config.json"):
        return True
    if any((workdir / "checkpoints").glob("*/_CHECKPOINT_METADATA")) and step_numbers(workdir / "checkpoints"):
        return True  # its config.json is damaged, which its readers report
    runs = list((workdir / RUNS).iterdir()) if (workdir / RUNS).is_dir() else []
    only_runs = {path.name for path in workdir.iterdir() if not _is_ignored(path)} == {RUNS}
    is_empty = lambda run: run.is_dir() and all(_is_ignored(path) for path in run.iterdir())
    return any(_is_config(run / "config.json") for run in runs) or (only_runs and all(map(is_empty, runs)))


def _is_ignored(path: Path) -> bool:
    """Whether a folder that holds only such files counts as empty."""
    name = path.name
    is_of_a_start = name == SECRET or name.startswith(f"{SECRET}.") or (name == LOCK and _is_lock(path))
    return name in _IGNORED or is_of_a_start or unfinished.is_unfinished(name)


def _is_lock(path: Path) -> bool:
    if not _is_plain(path):
        return False
    content = _beginning(path).strip(b"\0 \n")
    return not content or isinstance(_json(content), dict)


def _is_config(path: Path) -> bool:
    return _has(path, identity=dict, identity_fingerprint=str, versions=dict)


def _is_summary(path: Path) -> bool:
    return _has(path, name=str, steps=int, versions=dict)


def _is_metrics(path: Path) -> bool:
    """Whether there is a row at its beginning, or the beginning of one."""
    if not _is_plain(path):
        return False
    content = _beginning(path)
    lines = content.split(b"\n")
    return not content or lines[-1].startswith(b'{"kind": ') or any(map(_is_row, lines))


def _is_row(line: bytes) -> bool:
    row = _json(line)
    return isinstance(row, dict) and row.get("kind") in ("train", "eval", "event") and type(row.get("step")) is int


def _is_model(path: Path) -> bool:
    try:
        check_replaceable(path)
    except ModelFileError:
        # A finished run of a version that kept no record: the export replaces only what is equal to its own.
        return is_without_record(path) and _is_summary(path.parent / "summary.json")
    return True


def _has(path: Path, **kinds: type) -> bool:
    """Whether a file is a JSON object with members of these kinds."""
    if not _is_plain(path) or path.stat().st_size > _MOST_BYTES:
        return False
    value = _json(path.read_bytes())
    return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in kinds.items())


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_BEGINNING)


# Every name that a run writes in its workdir. A folder may lie on another disk, with a link in its place.
_OURS: Mapping[str, Callable[[Path], bool]] = {
    LOCK: _is_lock,
    "config.json": _is_plain,  # of a run; its readers report what is damaged
    "metrics.jsonl": _is_metrics,
    "summary.json": _is_summary,
    "report.html": lambda path: _is_plain(path) and b"- bertjax</title>" in _beginning(path),
    "model": _is_model,
    **dict.fromkeys(("checkpoints", "tensorboard", "tokenizer", "damaged", "bad_batches", RUNS), Path.is_dir),
}
