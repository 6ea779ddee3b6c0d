"""python -m bertjax.plan --config=FILE --topology=NAME [--price=DOLLARS] [--json] [--config.KEY=VALUE ...]

Compiles the real train step of every phase for machines that need not be there, and says what a run would need.

  --topology=NAME   TPU slices by chips, from one chip to a pod: v5e:4x4 v5e:16x16 v6e:8x8 v4:2x2x1 v5p:4x4x4
                    tpu7x:2x2x1 (GKE alone); GPUs of one host: h200:8 h100:1 a100:4; local: the devices of this machine
  --price=DOLLARS   of one chip for one hour: gives the cost
  --json            one JSON object instead of tables

What it says of a phase
  memory            bytes a device: parameters, optimizer state, temporaries (activations, gradients, batch, code), and
                    what the device has for a program; the rows a device that would fit, from two programs
  FLOPs             matrix products of the compiled step over all devices, beside the formula's; bytes of memory moved
  collectives       how often a step, over how many devices, how large
  step time         a range: from the roofline (peak, memory and links at data-sheet rates, all overlapped) to 35 %
                    of the bfloat16 peak, 70 % of the bandwidths and no communication hidden. Nothing is run
and of the run: days, chip-hours, cost. Where it does not fit: the first change of the config that does, compiled too.

A compile takes from seconds to minutes; what was compiled is remembered in the cache folder ($BERTJAX_CACHE). TPUs need
the package libtpu (pip install "bertjax[tpu]"), GPUs jax's CUDA plugin (pip install "bertjax[cuda]"), no chip.

Exit codes: 0 done, whether it fits or not ("fits" in the JSON); 2 usage, config, or a mesh that cannot be"""

import json
import sys
from typing import Any

from bertjax.cli.command import guarded, printing
from bertjax.cli.flags import config_command
from bertjax.cli.showing import note
from bertjax.config import RunConfig, resolve

OPTIONS = {
    "topology": ("", "machines to compile for, such as v5e:16x16"),
    "price": (-1.0, "dollars for one chip and hour"),
    "json": (False, "JSON output"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv

    def run(config: Any, chosen: dict[str, Any]) -> int:
        price = chosen["price"] if any(a.startswith("--price") for a in argv) else None
        return printing(lambda: guarded(lambda: _run(resolve(config), chosen["topology"], price, chosen["json"])))

    return config_command("bertjax.plan", argv, __doc__, RunConfig, OPTIONS, run)


def _run(run: RunConfig, topology_name: str, price: float | None, as_json: bool) -> None:
    from bertjax.planning.topologies import prepare_environment, read_topology

    topology = read_topology(topology_name)
    prepare_environment(topology)  # before jax is imported

    from bertjax.planning.plan_tables import show
    from bertjax.planning.runs import plan_run

    plan, chip = plan_run(run, topology, price, say=note)
    if as_json:
        print(json.dumps(plan, indent=2))
    else:
        show(plan, chip)


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("plan")
