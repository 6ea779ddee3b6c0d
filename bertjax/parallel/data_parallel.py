"""Work that each device along the mesh axis ``data`` does on its own rows, added up once at its end; and which part of
the optimizer's update is whose."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# ``(what all rows share, rows: arrays of one row each along their first axis) -> (gradient, other sums)``, both sums
# over the rows.
OfRows = Callable[[Any, Any], tuple[Any, Any]]
# Elements from which on an array is divided: a share of a bias is not worth a collective of its own.
LEAST_DIVIDED = 1 << 14


def is_data_parallel(mesh: Mesh) -> bool:
    """Whether ``data`` is all that the mesh divides: several devices, and all parameters on each of them."""
    return 1 < mesh.shape["data"] == mesh.size


def with_share(x: jax.ShapeDtypeStruct, mesh: Mesh) -> jax.ShapeDtypeStruct:
    """A whole array, its first dimension that ``data`` divides evenly divided over it; small ones stay whole."""
    count = mesh.shape["data"]
    place = next((n for n, size in enumerate(x.shape) if size % count == 0), None)
    if x.size < LEAST_DIVIDED or place is None:
        return x
    spec = PartitionSpec(*[None] * place, "data")
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))


def summed_over_data(mesh: Mesh, gradient: Any, reduce_in: jax.typing.DTypeLike) -> Callable[[OfRows], OfRows]:
    """``summed(of_rows)``: the same function of global arrays, for one whose results over parts of the rows add up.

    Left to itself, the compiler adds up over the devices every sum that runs over rows, wherever it stands: in a loop
    as often as the loop runs, and the parts of a sum one by one. Here nothing goes over ``data`` before the end.

    gradient: its ShapeDtypeStructs with the shardings that it is wanted in; where that is divided, each device gets the
    sum of its own part alone (reduce-scatter), half of what it costs to have it whole. reduce_in: its dtype on the way.
    """

    def reduced(g: jax.Array, wanted: jax.ShapeDtypeStruct) -> jax.Array:
        sent = g.astype(reduce_in)
        if "data" in wanted.sharding.spec:
            place = wanted.sharding.spec.index("data")
            return jax.lax.psum_scatter(sent, "data", scatter_dimension=place, tiled=True).astype(g.dtype)
        return jax.lax.psum(sent, "data").astype(g.dtype)

    def summed(of_rows: OfRows) -> OfRows:
        def on_own_rows(shared: Any, rows: Any) -> tuple[Any, Any]:
            found, sums = of_rows(shared, rows)
            return jax.tree.map(reduced, found, gradient), jax.lax.psum(sums, "data")

        return jax.shard_map(
            on_own_rows,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec("data")),
            out_specs=(jax.tree.map(lambda x: x.sharding.spec, gradient), PartitionSpec()),
            # Kernels do not say over which axes their results differ.
            check_vma=False,
        )

    return summed
