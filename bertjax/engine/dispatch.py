"""How many steps are dispatched ahead of the one whose metrics are read."""

from collections.abc import Iterable

from jax.sharding import Mesh

from bertjax.parallel.devices import peak_flops

MOST_AHEAD = 4
# What is queued takes about so long, seconds: much more than a pause of the host, much less than the notice of a
# preemption, within which a run finishes what it has dispatched.
QUEUED_SECONDS = 0.25
# Rough rates: part of an accelerator's peak that steps reach; FLOP/s of a CPU or an unknown device.
_UTILIZATION, _UNKNOWN_FLOPS = 0.4, 1e11


def steps_ahead(flops: Iterable[float], mesh: Mesh) -> int:
    """Between 1 and ``MOST_AHEAD``. flops: of one step in each stage of the run.

    A pure function of the run and its devices, never of measured times: all processes must read the same metrics at the
    same step, as a rollback depends on them.
    """
    peak = peak_flops(mesh)
    rate = _UNKNOWN_FLOPS * mesh.size if peak is None else _UTILIZATION * peak
    queued = QUEUED_SECONDS * rate / max(1.0, *flops)
    return max(1, min(MOST_AHEAD, int(queued)))


def batches_held(ahead: int) -> int:
    """Batches that exist beside those made ahead: the one in the making, the one in the step, and one for each step
    whose metrics are still to come, as the guard keeps a batch until it knows that it was good."""
    return 2 + ahead
