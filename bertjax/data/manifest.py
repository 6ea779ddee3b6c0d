"""``manifest.json`` of a prepared corpus: what it was made of, what is in it, and the hashes of its files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bertjax.data.files import DataError, hash_file

FILE = "manifest.json"
FORMAT_VERSION = 1
_PACKAGES = ("numpy", "sentencepiece", "tokenizers", "tensorflow-datasets", "array_record")
_KEYS = ("format_version", "key", "fingerprint", "sources", "settings", "tokenizer", "counts", "held_out", "files")


def write(folder: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8", newline="\n")


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared corpus. Raises DataError where there is none that can be read."""
    path = folder / FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder} is no prepared corpus: it has no {FILE}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or any(key not in manifest for key in _KEYS):
        raise DataError(f"{path} is no manifest of a prepared corpus")
    if manifest["format_version"] != FORMAT_VERSION:
        raise DataError(
            f"{folder} was prepared in format {manifest['format_version']}, not {FORMAT_VERSION}; prepare it again"
        )
    return manifest


def describe_files(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Relative path -> size and SHA-256."""
    described = {}
    for path in sorted(files):
        sha256, size = hash_file(path)
        described[path.relative_to(folder).as_posix()] = {"size": size, "sha256": sha256}
    return described


def check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises DataError where a file of the corpus is missing or of another size than on record."""
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"prepared corpus {folder} is damaged: {name} is missing; prepare it again")
        size, wanted = path.stat().st_size, expected["size"]
        if size != wanted:
            raise DataError(
                f"prepared corpus {folder} is damaged: {name} has {size} bytes, not {wanted}; prepare it again"
            )


def check_hashes(folder: Path, manifest: dict[str, Any]) -> None:
    """Reads every file. Raises DataError where one is missing, has changed since it was written, or is one too many."""
    check_sizes(folder, manifest)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.array_record*")}
    for name in sorted(there - set(manifest["files"])):
        raise DataError(f"prepared corpus {folder} is damaged: {name} does not belong to it; take it out")
    for name, expected in manifest["files"].items():
        if hash_file(folder / name)[0] != expected["sha256"]:
            raise DataError(f"prepared corpus {folder} is damaged: {name} has changed; prepare it again")


def key_of(sources: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """What a preparation is found again by: hex SHA-256 of the content of the sources and the settings."""
    content = [(source["kind"], source["sha256"]) for source in sources]
    return _digest({"format": FORMAT_VERSION, "sources": content, "settings": settings})


def fingerprint_of(files: dict[str, dict[str, Any]], tokenizer: str) -> str:
    """Hex SHA-256 of the data itself: the flat arrays and the tokenizer, wherever they came from."""
    hashes = {name: entry["sha256"] for name, entry in files.items() if name.startswith("index/")}
    return _digest({"format": FORMAT_VERSION, "files": hashes, "tokenizer": tokenizer})


def versions() -> dict[str, str]:
    """Versions of what decides how text is read."""
    from bertjax import __version__

    found = {"python": platform.python_version(), "bertjax": __version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
