"""How bertjax recognises the files that it exported: by a record of their hashes in the header of model.safetensors.

A file that is not in the record, or has changed since, is somebody's own.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bertjax.cli.paths import given_path
from bertjax.cli.showing import plain
from bertjax.errors import ModelFileError
from bertjax.interop.safetensors_files import digest, opened

# Of sentence-transformers, beside a model for embedding; the last is a folder with a config.json.
MODULES_FILE, LENGTH_FILE, POOLING_FOLDER = "modules.json", "sentence_bert_config.json", "1_Pooling"
_FOLDERS = (POOLING_FOLDER,)
# All that a model folder of transformers or bertjax may hold.
MODEL_FILES = ["model.safetensors", "model.safetensors.index.json", "config.json"]
MODEL_FILES += [MODULES_FILE, LENGTH_FILE, POOLING_FOLDER]
_KNOWN = [*MODEL_FILES, "generation_config.json", "README.md", ".gitattributes"]
TOKENIZER_FILES = [
    "vocab.txt",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
]

WEIGHTS = "model.safetensors"
_KEY = "bertjax"


def header(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Metadata for model.safetensors: the record of the files ``names`` as they are now."""
    return {"format": "pt", _KEY: json.dumps({name: _digest(folder / name) for name in sorted(names)})}


def sort_header(weights: Path) -> None:
    """Sorts the metadata of a safetensors file, which the library writes in random order, so that equal models have
    equal bytes."""
    with weights.open("r+b") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        text = file.read(size).decode()
        start = text.index('"__metadata__":') + len('"__metadata__":')
        metadata, end = json.JSONDecoder().raw_decode(text, start)
        ordered = json.dumps(metadata, sort_keys=True, separators=(",", ":"))
        assert len(ordered) == end - start
        file.seek(8 + len(text[:start].encode()))
        file.write(ordered.encode())


def vouched(folder: Path) -> set[str]:
    """Names of the files in a folder that are unchanged exports of bertjax; never links."""
    if (recorded := _recorded(folder / WEIGHTS)) is None:
        return set()
    same = {name for name, digest in recorded.items() if Path(name).name == name and _is(folder / name, digest)}
    return {WEIGHTS} | same


def is_shard(name: str) -> bool:
    return name.startswith("model-") and name.endswith(".safetensors")


def is_without_record(folder: Path) -> bool:
    """Whether the weights of a folder have no record, like those of early versions of bertjax."""
    weights = folder / WEIGHTS
    return weights.is_file() and not weights.is_symlink() and _recorded(weights) is None


def check_replaceable(
    directory: str | Path,
    overwrite: bool = False,
    replaced: Sequence[str] = (*MODEL_FILES, *TOKENIZER_FILES),
    copies: Sequence[Path] = (),
) -> Path:
    """The absolute path of a folder to write a model to. replaced: the files to be written.

    copies: folders; a file that is the same in one of them is not lost. Raises ModelFileError if something would be
    lost that bertjax did not export, without ``overwrite``.
    """
    path, exists = folder_path(directory)
    path = path.absolute()
    if path.is_symlink() or (path.exists() and not exists):
        raise ModelFileError(f"{path} is not a folder; choose another place for the model")
    if exists and path.resolve() == Path.cwd():
        raise ModelFileError(f"{path} is the current folder; give the model one of its own")
    try:
        names = sorted(child.name for child in path.iterdir()) if exists else []
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from None
    if folders := [name for name in names if name in replaced and name not in _FOLDERS and (path / name).is_dir()]:
        raise ModelFileError(f"{path / folders[0]} is a folder; choose another place for the model")
    if _is_of_a_run(path):
        raise ModelFileError(f"{path} is the folder of a run, or of a checkpoint; choose another place for the model")
    if overwrite:
        return path
    if others := [name for name in names if name not in (*_KNOWN, *TOKENIZER_FILES) and not is_shard(name)]:
        raise ModelFileError(
            f"{path} holds {others[0]}, which is not a file of a model; choose another folder, or replace only the "
            f"model's own files with --overwrite"
        )
    ours = vouched(path)
    foreign = [name for name in names if (name in replaced or is_shard(name)) and name not in ours]
    if foreign := [name for name in foreign if not any(_is_same(path / name, copy / name) for copy in copies)]:
        raise ModelFileError(
            f"{path} holds {foreign[0]}, which bertjax did not export or somebody has changed; choose another folder, "
            f"or replace it with --overwrite"
        )
    return path


def _is_of_a_run(path: Path) -> bool:
    """Whether a folder is a workdir, which would lose its config.json, or a step in one."""
    if (path / "_CHECKPOINT_METADATA").exists():
        return True
    config = path / "config.json"
    try:
        is_workdir = config.is_file() and (path / "checkpoints").is_dir()
        return is_workdir and b'"identity_fingerprint"' in config.read_bytes()
    except OSError:
        return False


def folder_path(path: str | Path) -> tuple[Path, bool]:
    """A path with ~ resolved, and whether it is a folder. Raises ModelFileError for an impossible path."""
    path = given_path(path, "the folder", ModelFileError)
    try:
        return path, path.is_dir()
    except OSError as error:
        raise ModelFileError(f"{plain(path)} cannot be read: {error.strerror or error}") from None


def _recorded(weights: Path) -> dict[str, str] | None:
    try:
        with opened(weights) as file:
            recorded = None if weights.is_symlink() else json.loads((file.metadata() or {})[_KEY])
    except (ValueError, KeyError, RecursionError):
        return None
    return recorded if isinstance(recorded, dict) else None


def _is(path: Path, digest: object) -> bool:
    try:
        return not path.is_symlink() and path.exists() and _digest(path) == digest
    except OSError:
        return False


def _is_same(path: Path, other: Path) -> bool:
    """Whether two files are the same; for weights, whatever their metadata."""
    try:
        is_kind = Path.is_dir if path.name in _FOLDERS else Path.is_file
        plain_files = all(is_kind(file) and not file.is_symlink() for file in (path, other))
        content = _tensors if path.name == WEIGHTS else _digest
        return plain_files and content(path) == content(other)
    except (OSError, ModelFileError):
        return False


def _tensors(weights: Path) -> dict[str, Any]:
    with opened(weights) as file:
        arrays = ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118 - it is no mapping
        return {name: (array.dtype, array.shape, digest(array)) for name, array in arrays}


def _digest(path: Path) -> str:
    """Of a file, or of a folder that holds only files. Raises OSError."""
    if path.name in _FOLDERS:
        inside = sorted(path.iterdir())
        if any(child.is_symlink() for child in inside):
            raise OSError(f"{path} holds a link")
        return hashlib.sha256("".join(f"{child.name}\0{_digest(child)}\0" for child in inside).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
