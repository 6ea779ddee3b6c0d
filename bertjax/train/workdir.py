"""The folder of a run: which run lives in it, and the files written there as a whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertjax.config import ConfigError, RunConfig, identity_fingerprint, identity_items, to_dict


def has_checkpoint(workdir: Path) -> bool:
    """Whether the run in this workdir has an identity: it has from its first checkpoint on."""
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(child.name.isdigit() for child in folder.iterdir())


def recorded_config(workdir: Path, needed: tuple[str, ...] = ("identity", "corpus")) -> dict[str, Any] | None:
    """The config.json of the run in this workdir, or None where there is no run to go on with.

    needed: the objects that it must hold. Raises ConfigError where it cannot be read.
    """
    path = workdir / "config.json"
    if not has_checkpoint(workdir):
        return None
    try:
        recorded = json.loads(path.read_text())
        for key in needed:
            if not isinstance(recorded.get(key), dict):
                raise ValueError(f"it has no {key!r}")
        return recorded
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{path} of the run in {workdir} cannot be read ({error}); use another --workdir=DIR"
        ) from None


def config_record(
    run: RunConfig, corpus: dict[str, Any], versions: dict[str, str], fingerprints: dict[str, Any]
) -> dict[str, Any]:
    """What goes into config.json. fingerprints: of the tokenizer and of what the first weights come from."""
    return {
        "config": to_dict(run),
        "identity": identity_items(run),
        "identity_fingerprint": identity_fingerprint(run),
        "corpus": corpus,
        "fingerprints": fingerprints,
        "versions": versions,
    }


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that the file is at any moment the old one or the new one, whole."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        json.dump(value, file, indent=2, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def clear_leftovers(workdir: Path) -> None:
    """Deletes what a killed run left of an export in the making."""
    for left in workdir.glob(".model.*"):
        shutil.rmtree(left, ignore_errors=True)


def keep_tokenizer(workdir: Path, save: Callable[[Path], None]) -> None:
    """Puts the run's tokenizer beside its checkpoints, so that these can be used without the corpus."""
    folder, building = workdir / "tokenizer", workdir / "tokenizer.tmp"
    shutil.rmtree(building, ignore_errors=True)
    save(building)
    # What lies there may be of a run that never came to a checkpoint.
    shutil.rmtree(folder, ignore_errors=True)
    building.replace(folder)
