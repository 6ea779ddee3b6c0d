"""One process of a group that takes a run on by a step or two, and stops, or to its end.

python stretch.py INDEX COUNT PORT CONFIG WORKDIR MESH TOTAL RATE stops|ends

A MESH is such as 2,2,2; TOTAL: steps of the run.
"""

import runpy
import sys
from pathlib import Path

import bertjax.train
from bertjax.cluster.environment import ClusterMember
from bertjax.errors import STOPPED


def main():
    index, count, port = map(int, sys.argv[1:4])
    config = runpy.run_path(sys.argv[4])["get_config"]()
    config.parallel.data, config.parallel.fsdp, config.parallel.tensor = map(int, sys.argv[6].split(","))
    total = int(sys.argv[7])
    config.phases.phase1.learning_rate = float(sys.argv[8])
    config.phases.phase1.steps, config.phases.phase2.steps = total // 2, total - total // 2
    cluster = ClusterMember("127.0.0.1", port, count, index, "test") if count > 1 else None
    saved = [int(path.name) for path in Path(sys.argv[5]).glob("checkpoints/*") if path.name.isdigit()]
    # An evaluation that the stretch before has put off is done, whoever asks.
    stop = lambda step: sys.argv[9] == "stops" and step > max(saved, default=0)
    try:
        bertjax.train.run(config, sys.argv[5], should_stop=stop, say=print, cluster=cluster)
    except bertjax.train.Stopped as stopped:
        print(stopped)
        return STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
