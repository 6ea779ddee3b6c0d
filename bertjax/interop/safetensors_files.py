"""Reading safetensors files that nobody vouches for: headers are checked before anything is allocated."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from bertjax.interop import ModelFileError

_CHECKSUMS = "bertjax.checksums"  # the key in the metadata of model.safetensors
INDEX = "model.safetensors.index.json"
# A BERT of 1,000 layers needs 2 MB; what JSON becomes in memory is up to 40 times its size.
_LARGEST_HEADER = 4 << 20
_MOST_FILES = 10_000
_LONGEST_NAME = 200
_FLOATS = {"F32": 4, "F16": 2, "BF16": 2}
# Bytes a number, by dtype: what bertjax reads, and everything that the format knows in whole bytes.
READABLE = _FLOATS | {"I64": 8, "I32": 4}
ALL_DTYPES = READABLE | {"F64": 8, "C64": 8, "U64": 8, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
ALL_DTYPES |= {"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}


@dataclass(frozen=True)
class TensorInfo:
    """One stored tensor: the file it lies in, its name there, its dtype (F32, F16, BF16, I64, I32) and shape.

    checksum: what ``checksums_of`` gave for it where bertjax wrote the file, else None.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    checksum: str | None = None

    @property
    def is_float(self) -> bool:
        return self.dtype in _FLOATS

    def read(self) -> np.ndarray:
        """The values, in a dtype of their own. Raises ModelFileError, also where a number is not finite or where they
        are not those that were exported."""
        try:
            with safe_open(self.file, framework="numpy") as file:
                array = file.get_tensor(self.name)
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise ModelFileError(f"{self.file}: tensor {self.name} cannot be read: {_line(error)}") from None
        if array.shape != self.shape:
            raise ModelFileError(f"{self.file}: tensor {self.name} is not what the header says")
        if self.is_float and not np.isfinite(array.astype(np.float32, copy=False)).all():
            raise ModelFileError(f"{self.file}: tensor {self.name} holds numbers that are not finite")
        if self.checksum is not None and _digest(array) != self.checksum:
            raise ModelFileError(
                f"{self.file}: tensor {self.name} is not what bertjax exported; export it again (or, if it was changed "
                f"on purpose, save it without {_CHECKSUMS!r} in the metadata)"
            )
        return array


def checksums_of(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Metadata for a file of these tensors, by which ``TensorInfo.read`` tells whether they are what was written."""
    return {_CHECKSUMS: json.dumps({name: _digest(tensors[name]) for name in sorted(tensors)})}


def _digest(array: np.ndarray) -> str:
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def list_tensors(folder: Path, dtypes: Mapping[str, int] = READABLE) -> dict[str, TensorInfo]:
    """Every tensor of a model folder by name: of ``model.safetensors``, or of the files its index names.

    dtypes: those that are let pass. Raises ModelFileError.
    """
    index, single = folder / INDEX, folder / "model.safetensors"
    if single.is_file() or not index.is_file():
        return read_header(single, dtypes)
    weight_map = read_json(index).get("weight_map")
    files = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not isinstance(weight_map, dict) or not files or not all(isinstance(file, str) for file in files):
        raise ModelFileError(f"{index} has no usable weight_map")
    if len(set(files)) > _MOST_FILES:
        raise ModelFileError(f"{index} names more than {_MOST_FILES:,} files")
    tensors: dict[str, TensorInfo] = {}
    for file in sorted(set(files)):
        # A name with a path in it would lead out of the folder.
        inside = file.endswith(".safetensors") and Path(file).name == file and "\\" not in file
        if not inside or len(file) > _LONGEST_NAME or not file.isprintable():
            raise ModelFileError(f"{index} names {_line(repr(file))}, which is no safetensors file of this folder")
        found = read_header(folder / file, dtypes)
        if twice := sorted(found.keys() & tensors.keys()):
            raise ModelFileError(f"{folder / file} and another file both hold the tensor {twice[0]}")
        tensors |= found
    for name, file in weight_map.items():
        if name not in tensors or tensors[name].file.name != file:
            raise ModelFileError(f"{index} names the tensor {_line(repr(name))}, which {_line(file)} does not hold")
    return tensors


def read_header(path: Path, dtypes: Mapping[str, int] = READABLE) -> dict[str, TensorInfo]:
    """The tensors of one safetensors file. Raises ModelFileError; reads the header only."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise ModelFileError(f"{path} is no file")
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > min(size - 8, _LARGEST_HEADER):
                raise ModelFileError(f"{path} is cut short or no safetensors file: its header would not fit in it")
            text = file.read(length)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None
    header = _parsed(text, str(path))
    checksums = _checksums(path, header.pop("__metadata__", None))
    tensors = {name: _info(path, name, entry, dtypes) for name, entry in header.items()}
    tensors = {name: replace(info, checksum=checksums.get(name)) for name, info in tensors.items()}
    spans = sorted((*entry["data_offsets"], name) for name, entry in header.items())
    reached = 0
    for begin, end, name in spans:
        if begin != reached or end - begin != math.prod(tensors[name].shape) * dtypes[tensors[name].dtype]:
            raise ModelFileError(f"{path}: the bytes of tensor {name} are not where they should be")
        reached = end
    if reached != size - 8 - length:
        raise ModelFileError(f"{path} is cut short or longer than its tensors: {size} bytes")
    return tensors


def _checksums(path: Path, metadata: Any) -> dict[str, str]:
    """The checksums in a file's metadata; none where bertjax did not write it."""
    text = metadata.get(_CHECKSUMS) if isinstance(metadata, dict) else None
    if text is None:
        return {}
    found = _parsed(text.encode(errors="replace") if isinstance(text, str) else b"", f"{path}: {_CHECKSUMS}")
    return {name: str(value) for name, value in found.items()}


def read_json(path: Path, kind: type = dict) -> Any:
    """A JSON object, or value of another ``kind``, from a file of at most 4 MB. Raises ModelFileError."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_HEADER + 1)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(text) > _LARGEST_HEADER:
        raise ModelFileError(f"{path} is larger than {_LARGEST_HEADER >> 20} MB")
    return _parsed(text, str(path), kind)


def _parsed(text: bytes, origin: str, kind: type = dict) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise ModelFileError(f"{origin} holds {_line(repr(twice))} twice")
        return found

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except ModelFileError:
        raise
    except (ValueError, RecursionError) as error:  # no JSON or UTF-8, a number of thousands of digits, deep nesting
        raise ModelFileError(f"{origin}: damaged JSON: {_line(error)}") from None
    if not isinstance(value, kind):
        raise ModelFileError(f"{origin} holds no JSON {'object' if kind is dict else kind.__name__}")
    return value


def _info(path: Path, name: str, entry: Any, dtypes: Mapping[str, int]) -> TensorInfo:
    # Without control characters and lone surrogates, so that names can stand in messages and tables as they are.
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise ModelFileError(f"{path}: {_line(repr(name))} is no name of a tensor")
    is_size = lambda n: type(n) is int and 0 <= n < 1 << 48
    try:
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        valid = isinstance(dtype, str) and isinstance(shape, list) and len(shape) <= 8 and all(map(is_size, shape))
        valid = valid and isinstance(offsets, list) and len(offsets) == 2 and all(map(is_size, offsets))
    except (TypeError, KeyError, IndexError):
        valid = False
    if not valid:
        raise ModelFileError(f"{path}: the header's entry of tensor {name} is damaged")
    if dtype not in dtypes:
        raise ModelFileError(f"{path}: tensor {name} is {_line(repr(dtype))}; bertjax reads F32, F16 and BF16")
    return TensorInfo(path, name, dtype, tuple(shape))


def _line(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 120 else f"{text[:120]} ..."
