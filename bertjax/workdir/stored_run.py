"""A run on disk, perhaps still training: its config, steps, parameters and tokenizer, verified to belong together.
Everything but the run itself reads the weights of a workdir here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from flax.traverse_util import unflatten_dict

from bertjax.config import RunConfig, resolve
from bertjax.config_schema import translated_record
from bertjax.engine.checkpoint.record import Damaged, whole_record
from bertjax.engine.checkpoint.step_folders import newest_that_stays, step_numbers
from bertjax.engine.checkpoint.stored_arrays import check_arrays, list_arrays
from bertjax.errors import CheckpointError, ConfigError, ModelFileError
from bertjax.interop.huggingface import folder_path
from bertjax.interop.safetensors_files import read_json
from bertjax.parallel.checksums import host_checksum
from bertjax.text.tokenizer import Tokenizer, load_tokenizer
from bertjax.workdir.config_json import check_config, check_tokenizer

T = TypeVar("T")


@dataclass(frozen=True)
class StoredRun:
    """A workdir with at least one checkpoint. ``recorded``: its config.json; ``config``: what that says."""

    workdir: Path
    config: RunConfig
    recorded: Mapping[str, Any]

    def check_step(self, step: int | None) -> None:
        """Raises ModelFileError if the run has no checkpoint of ``step``; None: no checkpoint."""
        steps = step_numbers(self.workdir / "checkpoints")
        if step is not None and step not in steps:
            raise ModelFileError(
                f"{self.workdir} has no checkpoint of step {step}; there are {', '.join(map(str, steps))}"
            )
        if not steps:
            raise ModelFileError(f"the run in {self.workdir} has no checkpoint yet")

    def check(self) -> None:
        """Raises ModelFileError if the newest checkpoint was not made with this config and tokenizer."""
        self._of_step(None, self._record)

    def weights(self, step: int | None = None) -> tuple[int, dict[str, Any]]:
        """(step, nested float32 parameters as NumPy arrays), by default of the newest step, or of the newest remaining
        one if a live run deletes that in the meantime. Raises ModelFileError if checksums, config or tokenizer do not
        match."""
        return self._of_step(step, lambda chosen: (chosen, self._params(chosen)))

    @cached_property
    def _tokenizer(self) -> Tokenizer | None:
        if not (self.workdir / "tokenizer").is_dir():
            return None
        try:
            return load_tokenizer(self.workdir / "tokenizer")
        except ConfigError as error:
            raise ModelFileError(str(error)) from None

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run. Raises ModelFileError."""
        if self._tokenizer is None:
            raise ModelFileError(f"{self.workdir} holds no tokenizer; start the run again, which puts it there")
        return self._tokenizer

    def _of_step(self, step: int | None, use: Callable[[int], T]) -> T:
        self.check_step(step)

        def read(chosen: int) -> T:
            try:
                return use(chosen)
            except (Damaged, CheckpointError) as error:
                where = self.workdir / "checkpoints" / str(chosen)
                raise ModelFileError(f"checkpoint {where} cannot be read: {error}") from None

        if step is not None:
            return read(step)
        return newest_that_stays(self.workdir / "checkpoints", read, (ModelFileError,))

    def _record(self, step: int) -> dict[str, Any]:
        record = whole_record(self.workdir / "checkpoints" / str(step), step)
        check_config(self.recorded, self.config, record, self.workdir)
        if self._tokenizer is not None:
            check_tokenizer(self._tokenizer.has_fingerprint, record, self.workdir)
        return record

    def _params(self, step: int) -> dict[str, Any]:
        record = self._record(step)
        found = list_arrays(self.workdir / "checkpoints" / str(step))
        check_arrays(found, record)
        params = {}
        for name, stored in found.items():
            # The moments, two thirds of the bytes, stay where they are.
            if name.startswith("params/"):
                array = params[name.removeprefix("params/")] = stored.read()
                if host_checksum(array) != record["arrays"][name]["checksum"]:
                    raise Damaged(f"{name} is not what was saved")
        return unflatten_dict(params, sep="/")


def is_run(path: Path) -> bool:
    return (path / "checkpoints").is_dir() and (path / "config.json").is_file()


def open_run(path: str | Path) -> StoredRun:
    """The run in a workdir. Raises ModelFileError if there is none, or no checkpoint yet."""
    path, _ = folder_path(path)
    if not is_run(path):
        raise ModelFileError(f"{path} is not the workdir of a run: it has no config.json and checkpoints")
    recorded = read_json(path / "config.json")
    try:
        recorded = translated_record(recorded)
        config = resolve(recorded.get("config"))
    except (ConfigError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"{path / 'config.json'} cannot be read: {' '.join(str(error).split())}") from None
    run = StoredRun(path, config, recorded)
    run.check_step(None)
    return run
