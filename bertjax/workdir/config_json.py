"""``config.json`` of a workdir: written when a run begins, read, and compared with whatever continues or uses the run.
Keys are compared by value, paths by what they lead to."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bertjax import config_schema, unfinished
from bertjax.config import RunConfig, identity_fingerprint, identity_items, to_dict, with_values
from bertjax.engine.checkpoint.step_folders import step_numbers
from bertjax.errors import ConfigError, ModelFileError

_OF_CORPUS = ("fingerprint", "path")
# ``(config.json on record, config, workdir) -> whether what the key leads to is the same``
SameContent = Callable[[Mapping[str, Any], RunConfig, Path], bool]


def has_checkpoint(workdir: Path) -> bool:
    """Whether the run in this workdir has an identity: it has from its first checkpoint on."""
    return bool(step_numbers(workdir / "checkpoints"))


def recorded_config(workdir: Path, needed: tuple[str, ...] = ("identity", "corpus")) -> dict[str, Any] | None:
    """The config.json of the run in this workdir, or None if there is no run to resume. needed: the objects that it
    must hold. Raises ConfigError if it cannot be read."""
    path = workdir / "config.json"
    if not has_checkpoint(workdir):
        return None
    try:
        recorded = config_schema.translated_record(json.loads(path.read_text()))
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
    """Writes JSON atomically: the file is always the old one or the new one, complete."""
    unfinished.write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_beginning(workdir: Path, record: dict[str, Any], save_tokenizer: Callable[[Path], None]) -> None:
    """Writes config.json, which makes the folder the run's, and the run's tokenizer, so that its checkpoints can be
    used without the corpus. Only a tokenizer that bertjax wrote is replaced by another one. Raises ConfigError."""
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


def check_same_run(
    recorded: Mapping[str, Any], run: RunConfig, workdir: Path, by_content: Mapping[str, SameContent]
) -> None:
    """Raises ConfigError that names every identity key in which the run differs from the recorded one. Keys that are
    not set cannot differ. by_content: how the keys that hold paths are compared."""
    added = config_schema.added_defaults(run)
    old, new = added | recorded["identity"], added | identity_items(run)
    new |= {name: old[name] for name in run.unset if name in old}
    for name, is_same in by_content.items():
        if name in old and old[name] != new[name] and is_same(recorded, run, workdir):
            new[name] = old[name]
    check_same_items(old, new, workdir, _more_steps(old, new, workdir))


def check_same_items(old: dict[str, Any], new: dict[str, Any], workdir: Path, advice: str = "") -> None:
    """Raises ConfigError that names every key whose values differ; ``advice`` is added to it."""
    differ = [k for k in sorted(set(old) | set(new)) if old.get(k) != new.get(k)]
    if differ:
        shown = ", ".join(f"{key} (there {old.get(key)!r}, here {new.get(key)!r})" for key in differ)
        raise ConfigError(
            f"workdir {workdir} holds a run of another config: {shown}; use --workdir=ANOTHER_DIR{advice}"
        )


def with_recorded_identity(recorded: Mapping[str, Any], run: RunConfig) -> RunConfig:
    """The run, of which ``check_same_run`` found that it is the recorded one, with the identity on record: the first
    spelling of its paths, and what was resolved when it began."""
    new = identity_items(run)
    return with_values(run, {k: v for k, v in recorded["identity"].items() if k != "phases" and new.get(k) != v})


def _more_steps(old: dict[str, Any], new: dict[str, Any], workdir: Path) -> str:
    is_steps = lambda name: name.startswith("phases.") and name.endswith(".steps")
    total = lambda items: sum(value for name, value in items.items() if is_steps(name) and isinstance(value, int))
    if total(new) <= total(old):
        return ""
    return (
        f" --config.init_from={workdir}: a run keeps its steps, which its learning rate follows, and another one can "
        f"begin with its weights"
    )


def fingerprints(recorded: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of what a run began with, by name: ``tokenizer``, ``init_from``. Runs of before they were kept have none."""
    found = (recorded or {}).get("fingerprints")
    return dict(found) if isinstance(found, dict) else {}


def origin_fingerprint(path: str) -> str | None:
    """Hex SHA-256 of what the first weights come from, wherever it lies: the identity of a run, which may have gone
    on since, or the files of a model folder; None if there is nothing."""
    try:
        folder = Path(path).expanduser()
        if (folder / "checkpoints").is_dir():
            return json.loads((folder / "config.json").read_text())["identity_fingerprint"]
        files = sorted(child for child in folder.iterdir() if child.is_file())
        return hashlib.sha256(b"".join(_digest(file) for file in files)).hexdigest() if files else None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return None


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.sha256(file.name.encode()).digest() + hashlib.file_digest(opened, "sha256").digest()


def place_of(spec: str) -> str:
    """Where a SPEC or path leads, however it is spelled; anything that is not a path is returned unchanged."""
    kind, colon, rest = spec.partition(":") if spec.startswith("tfds:") else ("", "", spec)
    try:
        path = Path(rest).expanduser()
        is_name = rest == "installed-docs" or (colon and not path.exists())
        return spec if is_name else f"{kind}{colon}{os.path.realpath(path)}"
    except (OSError, RuntimeError, ValueError):  # a home that is unknown, a name that cannot be
        return spec


def check_same_corpus(fingerprint: str, recorded: Mapping[str, Any]) -> None:
    """Raises ConfigError if a corpus is not the recorded one."""
    there = recorded["corpus"]["fingerprint"]
    if fingerprint != there:
        raise ConfigError(
            f"the corpus has changed since this run began (fingerprint {fingerprint[:12]}, there {there[:12]}); "
            f"bring it back or use --workdir=ANOTHER_DIR"
        )


def check_config(recorded: Mapping[str, Any], run: RunConfig | None, record: Mapping[str, Any], workdir: Path) -> None:
    """Raises ModelFileError if the config.json of a workdir differs from the checkpoint's. recorded: the
    config.json; run: the config in it where it is one of pretraining, else None; record: of the checkpoint."""
    recorded = config_schema.translated_record(recorded)
    items = recorded.get("identity")
    refusal = f"{workdir / 'config.json'} is not the config that the checkpoint of step {record['step']} was made with"
    if not isinstance(items, dict) or config_schema.fingerprint(items) != record.get("identity"):
        raise ModelFileError(
            f"{refusal} (its 'identity' does not match the checkpoint's); put the run's own config.json back"
        )
    if run is not None:
        said = identity_items(run)
    else:  # by dotted name, without sections that have the name of a fingerprint
        config = recorded.get("config")
        values = config_schema.leaves(config) if isinstance(config, Mapping) else {}
        said = {name: values[name] for name in items if name in values and not isinstance(values[name], Mapping)}
    differ = sorted(name for name in items if (name in said or run is not None) and said.get(name) != items[name])
    if differ:
        shown = ", ".join(f"{name} = {said.get(name)!r} and not {items[name]!r}" for name in differ)
        raise ModelFileError(f"{refusal}: it says {shown}; put the run's own config.json back")


def check_tokenizer(has_fingerprint: Callable[[object], bool], record: Mapping[str, Any], workdir: Path) -> None:
    """Raises ModelFileError where ``workdir/tokenizer``, whose method is given, differs from the checkpoint's."""
    if not has_fingerprint(record.get("tokenizer")):
        raise ModelFileError(
            f"{workdir / 'tokenizer'} is not the tokenizer that the checkpoint of step {record['step']} was made with; "
            f"put the run's own back, or move it away and start the run again, which puts it there"
        )
