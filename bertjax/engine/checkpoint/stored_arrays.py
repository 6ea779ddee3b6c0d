"""The arrays of a checkpoint on disk: Zarr arrays in one OCDBT database, read without Orbax and JAX.

Orbax reads all at once: if one is damaged, the others report on a loop that is gone by then. It also starts JAX, and on
an accelerator's host the run itself may hold the device.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from bertjax.engine.checkpoint.record import Damaged


@dataclass(frozen=True)
class StoredArray:
    """name: as in the record of the checkpoint, such as "params/embeddings/word_embeddings"."""

    state: Path
    key: str
    name: str
    dtype: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        """The values, unverified. Raises Damaged."""
        store = {"driver": "ocdbt", "base": _files(self.state), "path": f"{self.key}/"}
        try:
            array = tensorstore.open({"driver": "zarr", "kvstore": store}, open=True, read=True).result()
            return array.read().result()
        except Exception as error:  # whatever the library raises on damaged files
            raise Damaged(f"{self.name}: {_line(error)}") from None


def list_arrays(step_folder: Path) -> dict[str, StoredArray]:
    """The arrays of a checkpoint's state by name; only headers are read. Raises Damaged."""
    state = step_folder / "state"
    try:
        store = tensorstore.KvStore.open({"driver": "ocdbt", "base": _files(state)}).result()
        found = {}
        for entry in sorted(store.list().result()):
            key, _, part = entry.decode().rpartition("/")
            if part == ".zarray":
                header = json.loads(store.read(entry).result().value)
                name, shape = key.replace(".", "/"), tuple(int(size) for size in header["shape"])
                found[name] = StoredArray(state, key, name, np.dtype(header["dtype"]).name, shape)
        return found
    except Exception as error:
        raise Damaged(f"state: {_line(error)}") from None


def check_arrays(found: dict[str, StoredArray], record: dict[str, Any]) -> None:
    """Raises Damaged if a state holds other arrays than its record says."""
    for name, told, there in differences(record, found):
        raise Damaged(f"{name} is {there}, its record says {told}")


def differences(record: dict[str, Any], arrays: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, array by the record, array in ``arrays``) of the arrays that are not alike; an array has a dtype and a
    shape."""
    told = {name: f"{array['dtype']}{array['shape']}" for name, array in record["arrays"].items()}
    there = {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}
    both = (
        (name, told.get(name, "missing"), there.get(name, "missing")) for name in sorted(told.keys() | there.keys())
    )
    return [one for one in both if one[1] != one[2]]


def _files(state: Path) -> dict[str, str]:
    return {"driver": "file", "path": f"{state.absolute()}/"}


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]
