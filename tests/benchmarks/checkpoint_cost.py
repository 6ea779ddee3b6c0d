"""What a checkpoint of base's whole state costs: how long a save keeps the loop waiting, and what restoring takes.

python tests/benchmarks/checkpoint_cost.py [--config=configs/base.py] [--folder=DIR] [--saves=5]
"""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# What a run does between its start and its first save takes longer than this, and compiles beside it.
FIRST_STEP_SECONDS = 10.0
ROOT = Path(__file__).parent.parent.parent


def read(folder: Path) -> tuple[int, float]:
    """Bytes in all files under a folder, and the seconds it takes to read them one after the other."""
    began, size = time.perf_counter(), 0
    buffer = bytearray(2**24)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    size += count
    return size, time.perf_counter() - began


def forget(folder: Path) -> None:
    """The files are read from the disk again, as after a restart of the machine."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default=str(ROOT / "configs" / "base.py"))
    parser.add_argument("--folder", help="on the disk that is to be measured")
    parser.add_argument("--saves", type=int, default=5)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import jax

    from bertjax.config import resolve
    from bertjax.parallel.mesh import make_mesh
    from bertjax.train.checkpoints import Checkpoints
    from bertjax.train.job import make_job

    run = resolve(runpy.run_path(options.config)["get_config"]())
    mesh = make_mesh(-1, 1, 1)
    job = make_job(run, mesh)
    shapes = job.state_shapes()
    state = jax.block_until_ready(filled(job.initial_state()))
    size = sum(x.nbytes for x in jax.tree.leaves(state))
    print(
        f"state of {Path(options.config).stem}: {size / 1e9:.2f} GB, on {mesh.size} {jax.default_backend()} device(s)"
    )
    workdir = Path(tempfile.mkdtemp(prefix="checkpoint-cost-", dir=options.folder))
    try:
        checkpoints = Checkpoints(workdir, run.checkpoint, mesh, print)
        checkpoints.restore_newest(shapes)  # none; as every run begins, which compiles in the background
        time.sleep(FIRST_STEP_SECONDS)
        waits, wholes = [], []
        for step in range(options.saves + 1):
            began = time.perf_counter()
            checkpoints.save(step, state, {})
            waits.append(time.perf_counter() - began)
            checkpoints.wait()
            wholes.append(time.perf_counter() - began)
        print(f"the loop waits for a save: first {waits[0]:.2f} s, then median {median(waits)}")
        print(f"until it is on disk and read back: median {median(wholes)}")
        checkpoints.close()
        fresh = Checkpoints(workdir, run.checkpoint, mesh, print)
        del state
        for kind, prepare in (("from the disk", forget), ("from memory", read)):
            restores, reads = [], []
            for _ in range(options.saves + 1):
                newest = workdir / "checkpoints" / str(max(checkpoints.steps()))
                prepare(newest)
                stored, seconds = read(newest)
                reads.append(seconds)
                prepare(newest)
                began = time.perf_counter()
                jax.block_until_ready(fresh.restore_newest(shapes)[1])
                restores.append(time.perf_counter() - began)
            print(f"reading the {stored / 1e9:.2f} GB of files {kind}: median {median(reads)}")
            print(f"restoring with verification {kind}: first {restores[0]:.2f} s, then median {median(restores)}")
    finally:
        shutil.rmtree(workdir)


def filled(state: Any) -> Any:
    """Moments that are all zero, as at first, would be packed to nothing on disk."""
    import jax
    import jax.numpy as jnp

    noise = lambda x: x + 1e-3 * jax.random.normal(jax.random.key(x.size), x.shape, x.dtype)
    fill = lambda x: noise(x) if jnp.issubdtype(x.dtype, jnp.floating) and x.ndim else x
    return state.replace(opt_state=jax.jit(lambda tree: jax.tree.map(fill, tree))(state.opt_state))


def median(seconds: list[float]) -> str:
    """Of all but the first."""
    rest = seconds[1:]
    return f"{statistics.median(rest):.2f} s ({min(rest):.2f} to {max(rest):.2f})"


if __name__ == "__main__":
    main()
