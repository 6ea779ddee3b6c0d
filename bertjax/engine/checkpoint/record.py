"""The record of a checkpoint: plain JSON that says what the arrays beside it are, and proves itself by a digest."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bertjax import unfinished
from bertjax.config import CheckpointConfig
from bertjax.errors import CheckpointError

# The folder of the record in a checkpoint, and the file in it; both as Orbax's JSON handler names them.
ITEM, FILE = "record", "metadata"
# Written last into a step's folder, which then gets its name.
MARKER = "_CHECKPOINT_METADATA"


class Damaged(Exception):
    """A checkpoint that is not what was saved; the message says in what."""


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"digest": _digest(record)}


def read_record(step_folder: Path) -> dict[str, Any]:
    """The record of a checkpoint. Raises Damaged if it is missing, truncated, or not what was written."""
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


def whole_record(step_folder: Path, step: int | None = None) -> dict[str, Any]:
    """``read_record`` of a folder that is complete. step: whose it has to be; None: that of any step. Raises Damaged;
    CheckpointError if the record is as it was written, but not one that a run writes."""
    try:
        size = (step_folder / MARKER).stat().st_size
    except OSError as error:
        raise Damaged(f"{MARKER}: {error.strerror or error}") from None
    if not size:
        raise Damaged(f"{MARKER} is empty")
    record = read_record(step_folder)
    if step is not None and record.get("step") != step:
        raise Damaged(f"its record is that of step {record.get('step')}")
    refuse_nonsense(record.get("step", step), record, _NEEDED)
    refuse_nonsense(record["step"], record, {name: _MAY_BE[name] for name in _MAY_BE if name in record})
    return record


def amend_record(step_folder: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces values of a record, in one go, and returns it. Raises Damaged, OSError."""
    record = read_record(step_folder) | dict(changes)
    unfinished.write_whole(step_folder / ITEM / FILE, json.dumps(sealed(record)))
    return record


def refuse_nonsense(step: Any, record: Mapping[str, Any], makes_sense: Mapping[str, Callable[[Any], bool]]) -> None:
    """Raises CheckpointError that names the first value of a record that makes no sense, or is missing."""
    for name, is_fine in makes_sense.items():
        if name not in record:
            raise CheckpointError(f"the record of the checkpoint of step {step} has no {name!r}")
        if not is_fine(record[name]):
            shown = json.dumps(record[name])[:100]
            raise CheckpointError(f"the record of the checkpoint of step {step} makes no sense: {name} is {shown}")


def is_count(value: Any) -> bool:
    """Whether a value from JSON is a whole number from 0 on, of a size that anything is counted to."""
    return type(value) is int and 0 <= value < 1 << 62


def is_amount(value: Any) -> bool:
    """Whether a value from JSON is a finite number from 0 on."""
    return type(value) in (int, float) and 0 <= value < 1e300


def _is_array(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    shape, dtype, checksum = (value.get(name) for name in ("shape", "dtype", "checksum"))
    of_text = isinstance(dtype, str) and isinstance(checksum, str) and re.fullmatch("[0-9a-f]{16}", checksum)
    return isinstance(shape, list) and all(map(is_count, shape)) and bool(of_text)


def _is_loss(value: Any) -> bool:
    return value is None or type(value) is float or (type(value) is int and abs(value) < 1 << 62)


_NEEDED: dict[str, Callable[[Any], bool]] = {
    "step": is_count,
    "arrays": lambda arrays: isinstance(arrays, dict) and all(map(_is_array, arrays.values())),
}
_MAY_BE: dict[str, Callable[[Any], bool]] = {"held_out_loss": _is_loss, "phase": is_count}


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


# --- Which checkpoints are kept, by what their records say ----------------------------------------------------------


class Saved(NamedTuple):
    """What of a checkpoint decides whether it is kept. loss: on held-out data, None if it was not evaluated; of
    phases that read rows of other lengths losses cannot be compared."""

    loss: float | None = None
    phase: int = 0


def kept_steps(saved: Mapping[int, Saved], config: CheckpointConfig) -> set[int]:
    """Of the steps there are: the last ``keep``, every ``keep_every_steps``-th, and of each phase the ``keep_best``
    with the lowest loss."""
    steps = sorted(saved)
    kept = set(steps[-config.keep :])
    if config.keep_every_steps:
        kept |= {step for step in steps if step % config.keep_every_steps == 0}
    for phase in {one.phase for one in saved.values()}:
        evaluated = [
            (one.loss, step)
            for step, one in saved.items()
            if one.phase == phase and one.loss is not None and math.isfinite(one.loss)
        ]
        kept |= {step for _, step in sorted(evaluated)[: config.keep_best]}
    return kept
