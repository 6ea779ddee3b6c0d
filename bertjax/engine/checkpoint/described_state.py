"""What the record of a checkpoint says of the arrays of a state."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax

from bertjax.engine.checkpoint.stored_arrays import shown
from bertjax.errors import CheckpointError
from bertjax.parallel.sharding import path_name


def described(tree: Any, checksums: Mapping[str, str] = MappingProxyType({})) -> dict[str, dict[str, Any]]:
    """What a record says of every array of a state: {path: shape, dtype and, where given, checksum}."""
    found = {}
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        found[path_name(path)] = {"shape": list(x.shape), "dtype": x.dtype.name}
    for name, checksum in checksums.items():
        found[name]["checksum"] = checksum
    return found


def check_state(step: int, record: dict[str, Any], shapes: Any) -> None:
    """Raises CheckpointError if the checkpoint holds other arrays than the run has."""
    told, wanted = (
        {name: (array["dtype"], tuple(array["shape"])) for name, array in arrays.items()}
        for arrays in (record["arrays"], described(shapes))
    )
    differ = sorted(name for name in wanted.keys() | told.keys() if wanted.get(name) != told.get(name))
    if differ:
        name = differ[0]
        raise CheckpointError(
            f"the checkpoint of step {step} is of another state: {name} is {shown(told.get(name))} there, "
            f"{shown(wanted.get(name))} here" + f", and {len(differ) - 1} more differ" * (len(differ) > 1)
        )
