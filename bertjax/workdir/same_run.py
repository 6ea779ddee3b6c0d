"""Whether a config continues the run of a workdir: keys are compared by value, paths by what they lead to."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bertjax import config_schema
from bertjax.config import RunConfig, identity_items, with_values
from bertjax.errors import ConfigError, ModelFileError

# ``(config.json on record, config, workdir) -> whether what the key leads to is the same``
SameContent = Callable[[Mapping[str, Any], RunConfig, Path], bool]


def check_same_run(
    recorded: Mapping[str, Any], run: RunConfig, workdir: Path, by_content: Mapping[str, SameContent]
) -> None:
    """Raises ConfigError that names every identity key in which the run differs from the recorded one.

    A key that is not set cannot differ, nor does a path that leads to the same content by another spelling.
    by_content: how the keys that hold paths are compared.
    """
    old, new = recorded["identity"], identity_items(run)
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
    of = lambda items: {k: v for k, v in items.items() if k.startswith("phases.") and k.endswith(".steps")}
    total = lambda items: sum(v for v in of(items).values() if isinstance(v, int))
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


_NOTHING = object()


def check_config(recorded: Mapping[str, Any], run: RunConfig | None, record: Mapping[str, Any], workdir: Path) -> None:
    """Raises ModelFileError if the config.json of a workdir is another than the checkpoint's.

    recorded: the config.json; run: the config in it where it is one of pretraining, else None; record: of the
    checkpoint.
    """
    recorded = config_schema.translated_record(recorded)
    items = recorded.get("identity")
    refusal = f"{workdir / 'config.json'} is not the config that the checkpoint of step {record['step']} was made with"
    if not isinstance(items, dict) or config_schema.fingerprint(items) != record.get("identity"):
        raise ModelFileError(
            f"{refusal} (its 'identity' does not match the checkpoint's); put the run's own config.json back"
        )
    said = identity_items(run) if run is not None else _said(recorded.get("config"), items)
    differ = sorted(name for name in items if (name in said or run is not None) and said.get(name) != items[name])
    if differ:
        shown = ", ".join(f"{name} = {said.get(name)!r} and not {items[name]!r}" for name in differ)
        raise ModelFileError(f"{refusal}: it says {shown}; put the run's own config.json back")


def _said(config: Any, names: Iterable[str]) -> dict[str, Any]:
    """The values of keys of a config, by dotted name, as far as it has them."""
    found = {}
    for name in names:
        value = config
        for part in name.split("."):
            value = value.get(part, _NOTHING) if isinstance(value, Mapping) else _NOTHING
        if value is not _NOTHING and not isinstance(value, Mapping):  # a section, of the name of a fingerprint
            found[name] = value
    return found


def check_tokenizer(has_fingerprint: Callable[[object], bool], record: Mapping[str, Any], workdir: Path) -> None:
    """Raises ModelFileError where ``workdir/tokenizer``, whose method is given, is another than the checkpoint's."""
    if not has_fingerprint(record.get("tokenizer")):
        raise ModelFileError(
            f"{workdir / 'tokenizer'} is not the tokenizer that the checkpoint of step {record['step']} was made with; "
            f"put the run's own back, or move it away and start the run again, which puts it there"
        )
