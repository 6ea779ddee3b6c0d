"""A process of a run that only adds up numbers: PORT INDEX WORKDIR SECONDS. It prints the sums, to the last bit."""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.cli.command import run_as_process
from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.processes import distributed_run
from bertjax.cluster.watchdog import IN_STEP

STEPS = 20


def main() -> int:
    port, index = map(int, sys.argv[1:3])
    member = ClusterMember("127.0.0.1", port, 2, index, "test")
    with distributed_run(member, None, 60.0, Path(sys.argv[3])) as processes:
        devices = Mesh(np.array(jax.devices()), ("data",))
        divided = NamedSharding(devices, PartitionSpec("data"))
        add = jax.jit(lambda values: jnp.sin(values + 1.0).sum(), out_shardings=NamedSharding(devices, PartitionSpec()))
        total = 0.0
        for step in range(1, STEPS + 1):
            processes.progress.at(IN_STEP, step)
            rows = np.full((1, 1000), total + index, np.float32)
            values = jax.make_array_from_process_local_data(divided, rows)
            with processes.progress.pause("adding"):
                total = float(add(values))
            time.sleep(float(sys.argv[4]) / STEPS)
            assert processes.share(f"sum {step}", total) == total
            print(total.hex(), flush=True)
    return 0


if __name__ == "__main__":
    run_as_process(main)
