"""What a checkpoint of base's whole state costs: how long a save keeps the loop waiting, and what restoring takes.

python tests/benchmarks/checkpoint_cost.py [--config=configs/base.py] [--folder=DIR] [--saves=5]
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
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
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--config", default=str(ROOT / "configs" / "base.py"))
    parser.add_argument("--folder", help="on the disk that is to be measured")
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--restore", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if options.restore:
        print(json.dumps(restored(options)))
    else:
        measure(options)


def opened(options: argparse.Namespace, workdir: Path) -> tuple[Any, Any, Any]:
    """(the job of the config, the shapes of its state, the checkpoints in a workdir)."""
    from bertjax.config import resolve
    from bertjax.engine.checkpoint.checkpoints import Checkpoints
    from bertjax.parallel.mesh import make_mesh
    from bertjax.train.pretraining_job import make_job

    run = resolve(runpy.run_path(options.config)["get_config"]())
    mesh = make_mesh(-1, 1, 1)
    job = make_job(run, mesh)
    return job, job.state_shapes(), Checkpoints(workdir, run.checkpoint, mesh, print)


def restored(options: argparse.Namespace) -> list[float]:
    """Seconds of reading the files from the disk, and of the first restore of this process and the one after it."""
    import jax

    _, shapes, checkpoints = opened(options, options.restore)
    folder = options.restore / "checkpoints" / str(max(checkpoints.steps()))
    forget(folder)
    seconds = [read(folder)[1]]
    for _ in range(2):
        forget(folder)
        began = time.perf_counter()
        jax.block_until_ready(checkpoints.restore_newest(shapes)[1])
        seconds.append(time.perf_counter() - began)
    return seconds


def measure(options: argparse.Namespace) -> None:
    import jax

    workdir = Path(tempfile.mkdtemp(prefix="checkpoint-cost-", dir=options.folder))
    job, shapes, checkpoints = opened(options, workdir)
    state = jax.block_until_ready(filled(job.initial_state()))
    size = sum(x.nbytes for x in jax.tree.leaves(state))
    name, devices = Path(options.config).stem, f"{jax.device_count()} {jax.default_backend()} device(s)"
    print(f"state of {name}: {size / 1e9:.2f} GB, on {devices}")
    try:
        checkpoints.restore_newest(shapes)  # none; as every run begins, which compiles in the background
        time.sleep(FIRST_STEP_SECONDS)
        waits, wholes = [], []
        for step in range(options.saves + 1):
            began = time.perf_counter()
            checkpoints.save(step, state, {})
            waits.append(time.perf_counter() - began)
            checkpoints.wait()
            wholes.append(time.perf_counter() - began)
        print(f"the loop waits for a save: first {waits[0]:.2f} s, then {median(waits[1:])}")
        print(f"until it is on disk and read back: {median(wholes[1:])}")
        checkpoints.close()
        del state
        command = [sys.executable, __file__, f"--config={options.config}", f"--restore={workdir}"]
        rounds = []
        for _ in range(options.saves):
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rounds.append(json.loads(said.splitlines()[-1]))
        reads, firsts, seconds = zip(*rounds, strict=True)
        print(f"reading the files from the disk: {median(reads)}")
        print(f"the first restore of a process, with verification: {median(firsts)}")
        print(f"another one: {median(seconds)}")
        times = [first / read for first, read in zip(firsts, reads, strict=True)]
        print(f"first restore / reading: {statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})")
    finally:
        shutil.rmtree(workdir)


def filled(state: Any) -> Any:
    """Moments that are all zero, as at first, would be packed to nothing on disk."""
    import jax
    import jax.numpy as jnp

    noise = lambda x: x + 1e-3 * jax.random.normal(jax.random.key(x.size), x.shape, x.dtype)
    fill = lambda x: noise(x) if jnp.issubdtype(x.dtype, jnp.floating) and x.ndim else x
    return state.replace(opt_state=jax.jit(lambda tree: jax.tree.map(fill, tree))(state.opt_state))


def median(seconds: Sequence[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
