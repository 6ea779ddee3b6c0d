"""``manifest.json`` of a prepared corpus: what it was made of, what is in it, and the hashes of its files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from bertjax.data.corpus.files import hash_file
from bertjax.errors import DataError

FILE = "manifest.json"
FORMAT_VERSION = 1
# How files become text. Part of the key: a corpus of the cache that was read by other rules is not handed out for the
# same files.
READING_RULES = 2
_PACKAGES = ("numpy", "sentencepiece", "tokenizers", "tensorflow-datasets", "array_record")
_KEYS = ("format_version", "key", "fingerprint", "sources", "settings", "tokenizer", "counts", "held_out", "files")


class Damaged(DataError):
    """A prepared corpus whose files were read without an error and are not what was prepared. Whatever else keeps it
    from being opened - too many open files, no memory, a server that is away - may pass, and is a mere DataError."""


def write(folder: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8", newline="\n")


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared corpus. Raises DataError where it cannot be read, Damaged where it is none."""
    path = folder / FILE
    try:
        is_pipe = stat.S_ISFIFO(path.stat().st_mode)  # it would be waited for
        manifest = None if is_pipe else json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise Damaged(f"{folder} is no prepared corpus: it has no {FILE}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or any(key not in manifest for key in _KEYS):
        raise Damaged(f"{path} is no manifest of a prepared corpus")
    if manifest["format_version"] != FORMAT_VERSION:
        raise Damaged(
            f"{folder} was prepared in format {manifest['format_version']}, not {FORMAT_VERSION}; prepare it again"
        )
    wrong = _what_is_wrong(manifest)
    if wrong:
        raise Damaged(f"{path} is no manifest of a prepared corpus: {wrong}")
    return manifest


def _what_is_wrong(manifest: dict[str, Any]) -> str | None:
    """The first part of a manifest that is not of the type it must have; None where all are."""
    wanted: dict[str, type] = {"key": str, "fingerprint": str, "sources": list, "settings": dict}
    wanted |= dict.fromkeys(("tokenizer", "counts", "held_out", "files"), dict)
    of_tokenizer: dict[str, type] = {"kind": str, "vocab_size": int, "lowercase": bool, "fingerprint": str}
    counts = manifest["counts"] if isinstance(manifest["counts"], dict) else {}
    parts: list[tuple[str, Any, dict[str, type]]] = [("", manifest, wanted)]
    of_source: dict[str, type] = {"name": str, "kind": str, "sha256": str, "size": int}
    sources = manifest["sources"] if isinstance(manifest["sources"], list) else []
    parts += [("sources.", source, of_source) for source in sources]
    parts += [("tokenizer.", manifest["tokenizer"], of_tokenizer), ("held_out.", manifest["held_out"], {"kind": str})]
    for split in ("train", "held_out"):
        numbers: dict[str, type] = {"documents": int, "sentences": int, "tokens": int}
        parts.append((f"counts.{split}.", counts.get(split), numbers))
    for where, part, keys in parts:
        for key, kind in keys.items():
            value = part.get(key) if isinstance(part, dict) else None
            if type(value) is not kind or (kind is int and value < 0):
                return f"its {where}{key} is {value!r:.100}"
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
    described = {}
    for path in sorted(files):
        sha256, size = hash_file(path)
        described[path.relative_to(folder).as_posix()] = {"size": size, "sha256": sha256}
    return described


def check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises Damaged where a file of the corpus is missing or of another size than on record."""
    for name, expected in manifest["files"].items():
        try:
            status = (folder / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            raise Damaged(f"prepared corpus {folder} is damaged: {name} is missing; prepare it again") from None
        except OSError as error:
            raise DataError(f"{folder / name} cannot be read: {error.strerror or error}") from None
        if not stat.S_ISREG(status.st_mode):
            raise Damaged(f"prepared corpus {folder} is damaged: {name} is no file; prepare it again")
        if status.st_size != expected["size"]:
            raise Damaged(
                f"prepared corpus {folder} is damaged: {name} has {status.st_size} bytes, not {expected['size']}; "
                f"prepare it again"
            )


def check_hashes(folder: Path, manifest: dict[str, Any]) -> None:
    """Reads every file. Raises Damaged where one is missing, has changed since it was written, or is one too many;
    DataError where one cannot be read."""
    check_sizes(folder, manifest)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.array_record*")}
    for name in sorted(there - set(manifest["files"])):
        raise Damaged(f"prepared corpus {folder} is damaged: {name} does not belong to it; take it out")
    check_some_hashes(folder, manifest["files"])


def check_some_hashes(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Reads the files named in an excerpt of a manifest. Raises Damaged, and DataError where one cannot be read."""
    for name, expected in files.items():
        if hash_file(folder / name)[0] != expected["sha256"]:
            raise Damaged(f"prepared corpus {folder} is damaged: {name} has changed; prepare it again")


def key_of(sources: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """What a preparation is found again by: hex SHA-256 of the content of the sources and the settings."""
    content = [(source["kind"], source["sha256"]) for source in sources]
    return _digest({"format": FORMAT_VERSION, "reading": READING_RULES, "sources": content, "settings": settings})


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
