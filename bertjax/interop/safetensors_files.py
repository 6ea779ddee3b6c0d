"""Reads untrusted safetensors files with the library; whatever is wrong with one is an error of one line."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from bertjax.cli.json_text import parse_stored, read_limited, unique_names
from bertjax.cli.showing import short
from bertjax.errors import ModelFileError

INDEX = "model.safetensors.index.json"
_CHECKSUMS = "bertjax.checksums"  # the key in the metadata of model.safetensors
# A BERT of 1,000 layers needs 2 MB; what JSON becomes in memory is up to 40 times its size.
_LARGEST_JSON = 4 << 20
_MOST_FILES = 10_000
_LONGEST_NAME = 200
FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class TensorInfo:
    """One stored tensor: its file, its name there, its dtype in the format's notation ("F32") and its shape. checksum:
    what ``checksums_of`` gave for it where bertjax wrote the file, else None."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    checksum: str | None = None

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    def read(self) -> np.ndarray:
        """The values in their own dtype. Raises ModelFileError, also where a number is not finite or where the values
        are not those that were exported."""
        with opened(self.file) as file:
            array = file.get_tensor(self.name)
        if self.is_float and not np.isfinite(array.astype(np.float32, copy=False)).all():
            raise ModelFileError(f"{self.file}: tensor {self.name} holds numbers that are not finite")
        if self.checksum is not None and digest(array) != self.checksum:
            raise ModelFileError(
                f"{self.file}: tensor {self.name} is not what bertjax exported; export it again (or, if it was changed "
                f"on purpose, save it without {_CHECKSUMS!r} in the metadata)"
            )
        return array


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file, opened by the library. Raises ModelFileError for what it, or a use of it, finds wrong."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise ModelFileError(f"{path} is not a file")
        with safe_open(path, framework="numpy") as file:
            yield file
    except ModelFileError:
        raise
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError, TypeError) as error:
        reason = short(error, 200).removeprefix("Error while deserializing header: ")
        raise ModelFileError(f"{path} is damaged, truncated or not a safetensors file: {reason}") from None


def checksums_of(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Metadata for a file of these tensors, by which ``TensorInfo.read`` tells whether they are what was written."""
    return {_CHECKSUMS: json.dumps({name: digest(tensors[name]) for name in sorted(tensors)})}


def digest(array: np.ndarray) -> str:
    """Of the values of a tensor, 16 hex digits."""
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def list_tensors(folder: Path) -> dict[str, TensorInfo]:
    """Every tensor of ``model.safetensors``, or of the files that its index names, by name. Raises ModelFileError."""
    index, single = folder / INDEX, folder / "model.safetensors"
    if single.is_file() or not index.is_file():
        return tensors_in(single)
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(f, str) for f in weight_map.values()):
        raise ModelFileError(f"{index} has no usable weight_map")
    files = sorted(set(weight_map.values()))
    if len(files) > _MOST_FILES:
        raise ModelFileError(f"{index} names more than {_MOST_FILES:,} files")
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        # A name with a path in it would lead out of the folder.
        inside = file.endswith(".safetensors") and Path(file).name == file and "\\" not in file
        if not inside or len(file) > _LONGEST_NAME or not file.isprintable():
            raise ModelFileError(f"{index} names {short(repr(file))}, which is not a safetensors file in this folder")
        found = tensors_in(folder / file)
        if twice := sorted(found.keys() & tensors.keys()):
            raise ModelFileError(f"{folder / file} and another file both hold the tensor {twice[0]}")
        tensors |= found
    for name, file in weight_map.items():
        if name not in tensors or tensors[name].file.name != file:
            raise ModelFileError(f"{index} names the tensor {short(repr(name))}, which {file} does not hold")
    return tensors


def tensors_in(path: Path) -> dict[str, TensorInfo]:
    """The tensors of one safetensors file by name; reads no values. Raises ModelFileError."""
    with opened(path) as file:
        written = (file.metadata() or {}).get(_CHECKSUMS, "{}")
        checksums = parse_stored(written.encode(), f"{path}: {_CHECKSUMS}", ModelFileError, hook=unique_names)
        tensors = {}
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            # Without control characters, so that names can stand in messages and tables as they are.
            if len(name) > _LONGEST_NAME or not name.isprintable():
                raise ModelFileError(f"{path}: {short(repr(name))} is not a valid name of a tensor")
            stored = file.get_slice(name)
            checksum = str(checksums[name]) if name in checksums else None
            tensors[name] = TensorInfo(path, name, stored.get_dtype(), tuple(stored.get_shape()), checksum)
        return tensors


def read_json(path: Path, kind: type = dict) -> Any:
    """A JSON object, or value of another ``kind``, from a file of at most 4 MB. Raises ModelFileError."""
    return parse_stored(read_limited(path, _LARGEST_JSON, ModelFileError), path, ModelFileError, kind, unique_names)
