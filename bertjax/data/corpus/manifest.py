"""``manifest.json`` of a prepared corpus: what it was made of, what is in it, and the hashes of its files."""

import contextlib
import functools
import hashlib
import importlib.metadata
import itertools
import json
import platform
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from bertjax.data.corpus.arrays import FOLDER, SPLITS
from bertjax.data.corpus.files import hash_file, reading
from bertjax.errors import DataError

FILE = "manifest.json"
FORMAT_VERSION = 1
# How files become text. Part of the key: a corpus of the cache that was read by other rules is not reused for the
# same files.
READING_RULES = 2
_PACKAGES = ("numpy", "sentencepiece", "tokenizers", "tensorflow-datasets", "array_record")
# Corpora of earlier versions hold a second copy of their text there, which nothing reads.
_FORMER_COPY = "corpus/"
_COUNTS = dict.fromkeys(("documents", "sentences", "tokens"), int)
# Part of the manifest -> the type that each of its keys must have; in the order in which the parts can be looked into.
_TYPES: dict[str, dict[str, type]] = {
    "": {"key": str, "fingerprint": str, "sources": list, "settings": dict}
    | dict.fromkeys(("tokenizer", "counts", "held_out", "files"), dict),
    "sources": {"name": str, "kind": str, "sha256": str, "size": int},
    "tokenizer": {"kind": str, "vocab_size": int, "lowercase": bool, "fingerprint": str},
    "held_out": {"kind": str},
} | {f"counts.{split}": _COUNTS for split in SPLITS}


class Damaged(DataError):
    """A prepared corpus whose files could be read and are not what was prepared. Whatever else keeps it from being
    opened - too many open files, no memory, a server that is away - may pass, and is a plain DataError."""


def write(folder: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8", newline="\n")


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared corpus. Raises DataError if it cannot be read, Damaged if it is not valid."""
    path = folder / FILE
    with reading(path):
        try:
            is_pipe = stat.S_ISFIFO(path.stat().st_mode)  # reading it would wait for ever
            manifest = None if is_pipe else json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise Damaged(f"{folder} is not a prepared corpus: it has no {FILE}") from None
        except (ValueError, RecursionError) as error:
            raise Damaged(f"{path} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or any(key not in manifest for key in ("format_version", *_TYPES[""])):
        raise Damaged(f"{path} is not a manifest of a prepared corpus")
    if manifest["format_version"] != FORMAT_VERSION:
        raise Damaged(
            f"{folder} was prepared in format {manifest['format_version']}, not {FORMAT_VERSION}; prepare it again"
        )
    wrong = _what_is_wrong(manifest)
    if wrong:
        raise Damaged(f"{path} is not a valid manifest of a prepared corpus: {wrong}")
    manifest["files"] = {n: entry for n, entry in manifest["files"].items() if not n.startswith(_FORMER_COPY)}
    return manifest


def _what_is_wrong(manifest: dict[str, Any]) -> str | None:
    """The first part of a manifest that does not have the type it must have; None if there is none."""
    for name, types in _TYPES.items():
        found: Any = functools.reduce(dict.get, filter(None, name.split(".")), manifest)
        for part, (key, kind) in itertools.product(found if isinstance(found, list) else [found], types.items()):
            value = part.get(key) if isinstance(part, dict) else None
            if type(value) is not kind or (kind is int and value < 0):
                return f"its {name}{'.' if name else ''}{key} is {value!r:.100}"
    for name, entry in manifest["files"].items():
        if not isinstance(entry, dict) or type(entry.get("size")) is not int or type(entry.get("sha256")) is not str:
            return f"its files.{name!r:.100} has no size and SHA-256"
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            return f"its files.{name!r:.100} lies outside of it"
    if manifest["fingerprint"] != fingerprint_of(manifest["files"], manifest["tokenizer"]["fingerprint"]):
        return "its fingerprint is not that of its files"
    return None


def describe_files(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Relative path -> size and SHA-256."""
    found = {path.relative_to(folder).as_posix(): hash_file(path) for path in sorted(files)}
    return {name: {"size": content.size, "sha256": content.sha256} for name, content in found.items()}


def check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises Damaged if a file of the corpus is missing or does not have the size on record, DataError if one cannot
    be read."""
    for name, expected in manifest["files"].items():
        with reading(folder / name):
            try:
                status = (folder / name).stat()
            except (FileNotFoundError, NotADirectoryError):
                raise _damaged(folder, f"{name} is missing") from None
        if not stat.S_ISREG(status.st_mode):
            raise _damaged(folder, f"{name} is not a file")
        if status.st_size != expected["size"]:
            raise _damaged(folder, f"{name} has {status.st_size} bytes, not {expected['size']}")


def check_hashes(folder: Path, manifest: dict[str, Any]) -> None:
    """Reads every file. Raises Damaged if one is missing, has changed since it was written, or is one too many;
    DataError if one cannot be read."""
    check_sizes(folder, manifest)
    found = {path.relative_to(folder).as_posix() for path in (folder / FOLDER).glob("*.npy")}
    for name in sorted(found - set(manifest["files"])):
        raise _damaged(folder, f"{name} does not belong to it", "take it out")
    for name, expected in manifest["files"].items():
        if hash_file(folder / name).sha256 != expected["sha256"]:
            raise _damaged(folder, f"{name} has changed")


def _damaged(folder: Path, what: str, remedy: str = "prepare it again") -> Damaged:
    return Damaged(f"prepared corpus {folder} is damaged: {what}; {remedy}")


def key_of(sources: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """What a preparation is found again by: hex SHA-256 of the content of the sources and the settings."""
    content = [(source["kind"], source["sha256"]) for source in sources]
    return _digest({"format": FORMAT_VERSION, "reading": READING_RULES, "sources": content, "settings": settings})


def fingerprint_of(files: dict[str, dict[str, Any]], tokenizer: str) -> str:
    """Hex SHA-256 of the data itself: the flat arrays and the tokenizer, wherever they came from."""
    hashes = {name: entry["sha256"] for name, entry in files.items() if name.startswith(f"{FOLDER}/")}
    return _digest({"format": FORMAT_VERSION, "files": hashes, "tokenizer": tokenizer})


def versions() -> dict[str, str]:
    """Versions of what decides how text is read."""
    from bertjax import __version__

    found = {"python": platform.python_version(), "bertjax": __version__}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
