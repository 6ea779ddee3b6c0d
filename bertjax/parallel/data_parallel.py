"""Work that every group of devices along the mesh axis ``data`` does on its own rows, added up once at its end."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

# ``(what all rows share, rows: arrays of one row each along their first axis) -> sums over the rows, a pytree``
OfRows = Callable[[Any, Any], Any]


def summed_over_data(mesh: Mesh) -> Callable[[OfRows], OfRows]:
    """``summed(of_rows)``: the same function of global arrays, for one whose results over parts of the rows add up.

    Left to itself, the compiler adds up over the devices every sum that runs over rows, wherever it stands: in a loop
    as often as the loop runs, and the parts of a sum one by one. Here nothing goes over ``data`` before the end. On a
    mesh that divides parameters, too, all is left to the compiler.
    """
    if mesh.shape["data"] < mesh.size or mesh.size == 1:
        return lambda of_rows: of_rows

    def summed(of_rows: OfRows) -> OfRows:
        def on_own_rows(shared: Any, rows: Any) -> Any:
            return jax.lax.psum(of_rows(shared, rows), "data")

        return jax.shard_map(
            on_own_rows,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec("data")),
            out_specs=PartitionSpec(),
            # Kernels do not say over which axes their results differ.
            check_vma=False,
        )

    return summed
