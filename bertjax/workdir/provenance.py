"""Whether what lies beside a checkpoint is what the checkpoint was made with, by the fingerprints in its record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bertjax import config_schema
from bertjax.config import RunConfig, identity_items
from bertjax.errors import ModelFileError

_NOTHING = object()


def check_config(recorded: Mapping[str, Any], run: RunConfig | None, record: Mapping[str, Any], workdir: Path) -> None:
    """Raises ModelFileError where the config.json of a workdir is another than the checkpoint's.

    recorded: the config.json; run: the config in it where it is one of pretraining, else None; record: of the
    checkpoint.
    """
    recorded = config_schema.translated_record(recorded)
    items, path, step = recorded.get("identity"), workdir / "config.json", record["step"]
    if not isinstance(items, dict) or config_schema.fingerprint(items) != record.get("identity"):
        raise ModelFileError(
            f"{path} is not the config that the checkpoint of step {step} was made with (its 'identity' does not match "
            f"the checkpoint's); put the run's own config.json back"
        )
    said = identity_items(run) if run is not None else _said(recorded.get("config"), items)
    differ = sorted(name for name in items if (name in said or run is not None) and said.get(name) != items[name])
    if differ:
        shown = ", ".join(f"{name} = {said.get(name)!r} and not {items[name]!r}" for name in differ)
        raise ModelFileError(
            f"{path} is not the config that the checkpoint of step {step} was made with: it says {shown}; put the "
            f"run's own config.json back"
        )


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
