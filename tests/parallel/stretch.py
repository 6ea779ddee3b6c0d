"""One process of a group that takes a run on by a step or two, and stops.

python stretch.py INDEX COUNT PORT CONFIG WORKDIR MESH TOTAL RATE     (a MESH is such as 2,2,2; TOTAL: steps of the run)
"""

import runpy
import sys

import bertjax.train
from bertjax.command import STOPPED
from bertjax.parallel.cluster import Cluster


def main():
    index, count, port = map(int, sys.argv[1:4])
    config = runpy.run_path(sys.argv[4])["get_config"]()
    config.parallel.data, config.parallel.fsdp, config.parallel.tensor = map(int, sys.argv[6].split(","))
    total = int(sys.argv[7])
    config.phases.phase1.learning_rate = float(sys.argv[8])
    config.phases.phase1.steps, config.phases.phase2.steps = total // 2, total - total // 2
    cluster = Cluster("127.0.0.1", port, count, index, "test") if count > 1 else None
    try:
        bertjax.train.run(config, sys.argv[5], should_stop=lambda step: True, say=print, cluster=cluster)
    except bertjax.train.Stopped as stopped:
        print(stopped)
        return STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
