"""How bertjax knows the files that it exported: model.safetensors names them, with the hash of each.

The record lies in the header of that file, where no reader of the format minds it. A file that is not on it, or is no
longer what it was, is somebody's own.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from pathlib import Path

WEIGHTS = "model.safetensors"
_KEY = "bertjax"
_LARGEST_HEADER = 4 << 20


def header(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Metadata for model.safetensors, which vouches for the files ``names`` of the folder as they are now."""
    return {"format": "pt", _KEY: json.dumps({name: _digest(folder / name) for name in sorted(names)})}


def vouched(folder: Path) -> set[str]:
    """Names of the files of a folder that are as bertjax exported them; a link is not one of them."""
    recorded = _recorded(folder / WEIGHTS)
    if recorded is None:
        return set()
    same = {name for name, digest in recorded.items() if Path(name).name == name and _is(folder / name, digest)}
    return {WEIGHTS} | same


def _recorded(weights: Path) -> dict[str, str] | None:
    """The record in the header of a file that ``header`` was given to, or None."""
    try:
        if weights.is_symlink() or not weights.is_file():
            return None
        with weights.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            recorded = json.loads(json.loads(file.read(min(size, _LARGEST_HEADER)))["__metadata__"][_KEY])
    except (OSError, ValueError, KeyError, TypeError, struct.error, RecursionError):
        return None
    return recorded if isinstance(recorded, dict) else None


def _is(path: Path, digest: object) -> bool:
    try:
        return not path.is_symlink() and path.is_file() and _digest(path) == digest
    except OSError:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
