"""The folder of a run: which run lives in it, and the files written there as a whole."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertjax import unfinished
from bertjax.config import RunConfig, identity_fingerprint, identity_items, to_dict
from bertjax.config_schema import translated_record
from bertjax.engine.checkpoint.step_folders import step_numbers
from bertjax.errors import ConfigError

_OF_CORPUS = ("fingerprint", "path")


def has_checkpoint(workdir: Path) -> bool:
    """Whether the run in this workdir has an identity: it has from its first checkpoint on."""
    return bool(step_numbers(workdir / "checkpoints"))


def recorded_config(workdir: Path, needed: tuple[str, ...] = ("identity", "corpus")) -> dict[str, Any] | None:
    """The config.json of the run in this workdir, or None if there is no run to go on with.

    needed: the objects that it must hold. Raises ConfigError if it cannot be read.
    """
    path = workdir / "config.json"
    if not has_checkpoint(workdir):
        return None
    try:
        recorded = translated_record(json.loads(path.read_text()))
        for key in needed:
            if not isinstance(recorded.get(key), dict):
                raise ValueError(f"it has no {key!r}")
        if "corpus" in needed and not all(isinstance(recorded["corpus"].get(key), str) for key in _OF_CORPUS):
            raise ValueError("its corpus has no fingerprint and path")
        return recorded
    except (OSError, ValueError, AttributeError, RecursionError) as error:
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
    unfinished.write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_beginning(workdir: Path, record: dict[str, Any], save_tokenizer: Callable[[Path], None]) -> None:
    """Writes config.json, which makes the folder the run's, and puts the run's tokenizer beside its checkpoints, so
    that these can be used without the corpus.

    Only a tokenizer that is as bertjax wrote it is replaced by another one. Raises ConfigError.
    """
    place = workdir / "tokenizer"
    building = unfinished.new_name(place)
    try:
        save_tokenizer(building)
        files, there = _hashes(building), _hashes(place)
        differ = [name for name in files if there.get(name) != files[name]]
        if differ and there and there != _tokenizer_on_record(workdir):
            raise ConfigError(
                f"{place} is not the tokenizer that bertjax wrote for this run ({differ[0]} differs); move it away and "
                f"run the same command again, or use --workdir=ANOTHER_DIR"
            )
        if differ and there:  # of a run that never came to a checkpoint
            shutil.rmtree(place)
        write_json(workdir / "config.json", record | {"tokenizer_files": files})
        if differ:
            building.replace(place)
    except OSError as error:
        raise ConfigError(f"the tokenizer cannot be written to {place}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _tokenizer_on_record(workdir: Path) -> Any:
    try:
        return json.loads((workdir / "config.json").read_bytes())["tokenizer_files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _hashes(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder; anything else, links too, has a word instead."""
    found = {}
    for path in sorted(folder.rglob("*")):
        is_plain = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest() if is_plain else "no file"
    return found
