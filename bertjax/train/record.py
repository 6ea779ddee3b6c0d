"""The record of a checkpoint: plain JSON that says what the arrays beside it are, and proves itself by a digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

# The folder of the record in a checkpoint, and the file in it; both as Orbax's JSON handler names them.
ITEM, FILE = "record", "metadata"


class Damaged(Exception):
    """A checkpoint that is not what was saved; the message says in what."""


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its digest."""
    return record | {"digest": _digest(record)}


def read_record(step_folder: Path) -> dict[str, Any]:
    """The record of a checkpoint. Raises Damaged where it is missing, cut, or not what was written."""
    path = step_folder / ITEM / FILE
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict):
            raise ValueError("no JSON object")
        digest = record.pop("digest", None)
    except OSError as error:
        raise Damaged(f"{ITEM}/{FILE}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise Damaged(f"{ITEM}/{FILE} is not JSON") from None
    if digest != _digest(record):
        raise Damaged(f"{ITEM}/{FILE} does not match its digest")
    return record


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
