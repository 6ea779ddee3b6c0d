"""A run as it lies on disk: its config, steps, parameters and tokenizer, for export and for starting another run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from bertjax.config import ConfigError, RunConfig, resolve
from bertjax.interop import ModelFileError
from bertjax.interop.huggingface import folder_path
from bertjax.text.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class StoredRun:
    """A workdir with at least one checkpoint. ``steps``: those that were saved, ascending."""

    workdir: Path
    config: RunConfig
    steps: list[int]

    def checked_step(self, step: int | None) -> int:
        """``step``, or the newest; raises ModelFileError where there is no such checkpoint."""
        if step is not None and step not in self.steps:
            there = ", ".join(map(str, self.steps))
            raise ModelFileError(f"{self.workdir} has no checkpoint of step {step}; there are {there}")
        return self.steps[-1] if step is None else step

    def params(self, step: int) -> dict[str, Any]:
        """The nested float32 parameters after ``step`` updates, as NumPy arrays. Raises ModelFileError."""
        folder = epath.Path(self.workdir.absolute() / "checkpoints" / str(step) / "state")
        handler = ocp.PyTreeCheckpointHandler()
        try:
            stored = {"params": handler.metadata(folder).tree["params"]}
            arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored)
            # The moments, two thirds of the bytes, stay where they are.
            wanted = ocp.args.PyTreeRestore(item=stored, restore_args=arrays, partial_restore=True)
            return handler.restore(folder, args=wanted)["params"]
        except Exception as error:  # Orbax raises whatever its storage layer does
            reason = " ".join(str(error).split())[:200]
            raise ModelFileError(f"checkpoint {folder.parent} cannot be read: {reason}") from None
        finally:
            handler.close()

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run. Raises ModelFileError."""
        if not (self.workdir / "tokenizer").is_dir():
            raise ModelFileError(f"{self.workdir} holds no tokenizer; start the run again, which puts it there")
        try:
            return load_tokenizer(self.workdir / "tokenizer")
        except ConfigError as error:
            raise ModelFileError(str(error)) from None


def is_run(path: Path) -> bool:
    """Whether a path is the workdir of a run."""
    return (path / "checkpoints").is_dir() and (path / "config.json").is_file()


def open_run(path: str | Path) -> StoredRun:
    """The run in a workdir. Raises ModelFileError where there is none, or no checkpoint yet."""
    path, _ = folder_path(path)
    if not is_run(path):
        raise ModelFileError(f"{path} is no workdir of a run: it holds no config.json and checkpoints")
    try:
        config = resolve(json.loads((path / "config.json").read_text())["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path / 'config.json'} cannot be read: {' '.join(str(error).split())}") from None
    steps = sorted(int(child.name) for child in (path / "checkpoints").iterdir() if child.name.isdigit())
    if not steps:
        raise ModelFileError(f"the run in {path} has no checkpoint yet")
    return StoredRun(path, config, steps)
