"""The train step of a phase, compiled for devices that need not be present, and what the compiled program says."""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
from jax.sharding import Mesh

from bertjax import unfinished
from bertjax.batch import shapes
from bertjax.config import PhaseConfig, RunConfig
from bertjax.data.corpus.placing import cache_folder
from bertjax.objectives.registry import run_objective
from bertjax.parallel.mesh import batch_shards
from bertjax.parallel.sharding import batch_sharding
from bertjax.planning.hlo import read_program
from bertjax.planning.work import collectives, main_memory_bytes, matrix_flops
from bertjax.train.pretraining_job import PretrainingJob, accumulation_steps, make_job, row_size

# Memories of a TPU that are on the chip itself: vector memory, semaphores, scalar memory.
FAST_SPACES = {"tpu": frozenset({1, 2, 6})}

SECONDS_BETWEEN_NOTES = 15.0  # while the compiler works
QUICK = {"exec_time_optimization_effort": -1.0}

# "... required ... (29.90G) exceeds available HBM (15.75G)" or "Used 17.60G of 15.75G hbm".
_NEEDED = re.compile(r"\((\d+(?:\.\d+)?)([KMGT])\) exceeds|Used (\d+(?:\.\d+)?)([KMGT]) of")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Analysis:
    """One compiled step, per device. Of a program that the compiler finds too large only ``total`` is known."""

    total: int  # bytes of memory
    flops: float | None = None
    bytes_accessed: float | None = None
    collectives: tuple[dict[str, Any], ...] = ()

    @property
    def compiled(self) -> bool:
        return self.flops is not None

    @property
    def bytes_sent(self) -> float:
        return sum(collective["bytes_sent"] for collective in self.collectives)

    def scaled(self, factor: float) -> "Analysis":
        """With the work of ``factor`` times the rows; the collectives, nearly all of gradients, stay."""
        flops, accessed = (self.flops or 0.0) * factor, (self.bytes_accessed or 0.0) * factor
        return replace(self, flops=flops, bytes_accessed=accessed)


@dataclass(frozen=True)
class Split:
    """How a batch is computed: rows that a device holds at once, and parts that are computed one after the other."""

    rows: int
    accumulation: int


def split_of(run: RunConfig, phase: PhaseConfig, mesh: Mesh) -> Split:
    """The split that a run would use. Raises ConfigError where the batch cannot be divided."""
    parts = accumulation_steps(run, phase, mesh)
    return Split(phase.batch_size // batch_shards(mesh) // parts, parts)


def lower_step(run: RunConfig, name: str, mesh: Mesh, split: Split) -> Any:
    """The phase's step, lowered for ``split.rows`` rows a device in ``split.accumulation`` parts."""
    batch_size = split.rows * split.accumulation * batch_shards(mesh)
    phase = replace(run.phases[name], batch_size=batch_size)
    parallel = replace(run.parallel, rows_per_device=split.rows)
    run = replace(run, phases={**run.phases, name: phase}, parallel=parallel)
    job = make_job(run, mesh)
    size = (phase.batch_size, *row_size(run, phase))
    fields = shapes(*size, run_objective(run).maker.fields)
    sharding = batch_sharding(mesh)
    batch = {n: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for n, (shape, dtype) in fields.items()}
    return job.train_step(phase).lower(job.state_shapes(), batch)


def state_bytes(job: PretrainingJob) -> dict[str, int]:
    """Bytes of the parameters and of the optimizer's state on one device, as they are sharded."""
    state = job.state_shapes()
    size = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    return {
        "parameters": sum(map(size, jax.tree.leaves(state.params))),
        "optimizer": sum(map(size, jax.tree.leaves(state.opt_state))),
    }


def _compiled(lowered: Any, quick: bool) -> Any:
    try:
        return lowered.compile(compiler_options=QUICK if quick else None)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):  # as newer compilers have it
            raise
        return lowered.compile()


def analyse(lowered: Any, platform: str, devices: int, quick: bool = False) -> Analysis:
    """Compiles a program and reads the result. quick: the compiler tries less hard: a third of the time for a TPU
    program, a few percent more memory."""
    try:
        compiled = _compiled(lowered, quick and platform == "tpu")
    except jax.errors.JaxRuntimeError as error:
        needed = _NEEDED.search(str(error))
        if needed is None:
            raise
        number, unit = next((n, u) for n, u in (needed.groups()[:2], needed.groups()[2:]) if n)
        return Analysis(int(float(number) * _UNITS[unit]))
    return read_compiled(compiled, platform, devices)


def read_compiled(compiled: Any, platform: str, devices: int) -> Analysis:
    """What a compiled program says of itself. devices: number that it runs on."""
    memory = compiled.memory_analysis()
    program = read_program(compiled.as_text())
    return Analysis(
        total=memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes,
        flops=matrix_flops(program),
        bytes_accessed=main_memory_bytes(program, FAST_SPACES.get(platform, frozenset())),
        collectives=tuple(asdict(c) for c in collectives(program, devices)),
    )


# Raise it when an analysis holds something else, or is computed differently.
FORMAT = 3
_COMPILERS = ("jax", "jaxlib", "libtpu", "jax-cuda13-plugin", "jax-cuda12-plugin")
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def program_key(lowered: Any, topology: str, quick: bool) -> str:
    """Hex SHA-256 of the program's text, the topology with its kind of device, and the compiler with its flags."""
    versions: dict[str, str | None] = dict.fromkeys(_COMPILERS)
    for name in _COMPILERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    flags = {name: os.environ.get(name, "") for name in _FLAGS}
    head = json.dumps([FORMAT, topology, quick, versions, flags], sort_keys=True)
    return hashlib.sha256((head + lowered.as_text()).encode()).hexdigest()


def cached_analysis(key: str, make: Callable[[], Analysis]) -> Analysis:
    """The analysis stored under ``key``, else a new one, which is stored. A damaged file is written anew."""
    path = cache_folder() / "plans" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(path.read_text())
        return Analysis(**(stored | {"collectives": tuple(stored["collectives"])}))
    analysis = make()
    with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to fail
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_whole(path, json.dumps(asdict(analysis)))
    return analysis


# ``(what it is, lowered program, quick) -> analysis``
Compile = Callable[[str, Any, bool], Analysis]


def compiler(topology: str, mesh: Mesh, say: Callable[[str], None]) -> Compile:
    """Compiles for the devices of a mesh what is not stored yet; ``say`` gets lines while it works."""
    device = mesh.devices.flat[0]

    def compile_step(label: str, lowered: Any, quick: bool) -> Analysis:
        key = program_key(lowered, f"{topology} {device.device_kind}", quick)
        work = lambda: analyse(lowered, device.platform, mesh.size, quick)
        return cached_analysis(key, lambda: _timed(f"compiling {label} for {topology}", say, work))

    return compile_step


def _timed(what: str, say: Callable[[str], None], work: Callable[[], Analysis]) -> Analysis:
    """The result of ``work``; says what it is when it begins, now and again, and at its end."""
    began, done = time.monotonic(), threading.Event()

    def remind() -> None:
        while not done.wait(SECONDS_BETWEEN_NOTES):
            say(f"{what}: {time.monotonic() - began:.0f} s so far")

    say(f"{what} ...")
    threading.Thread(target=remind, daemon=True).start()
    try:
        return work()
    finally:
        done.set()
        say(f"{what}: done in {time.monotonic() - began:.1f} s")
