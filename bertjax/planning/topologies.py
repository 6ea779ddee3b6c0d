"""Names of machines, such as ``v5e:16x16`` or ``h200:8``, and the devices to compile for."""

import importlib.util
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from bertjax.config import nearest
from bertjax.errors import ConfigError

_TEXT = """\
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared_per_core}
  shared_memory_per_block_optin: {shared_per_block}
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth}
  l2_cache_size: {l2}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  cuda_compute_capability {{ major: {major} feature_extension: {features} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""

_HOPPER = {
    "shared_per_core": 228 * 1024,
    "shared_per_block": 227 * 1024,
    "cores": 132,
    "fpus": 128,
    "l2": 50 * 2**20,
    "clock": 1.98,
    "major": 9,
    "features": "ACCELERATED_FEATURES",
}
_AMPERE = {
    "shared_per_core": 164 * 1024,
    "shared_per_block": 163 * 1024,
    "cores": 108,
    "fpus": 64,
    "l2": 40 * 2**20,
    "clock": 1.41,
    "major": 8,
    "features": "NONE",
}

# NVIDIA's data sheets and CUDA's table of compute capabilities (9.0 and 8.0); ``name`` is jax's device_kind.
GPU_TARGETS: dict[str, str] = {
    "h200": _TEXT.format(**_HOPPER, name="NVIDIA H200", bandwidth=4_800_000_000_000, memory=139 * 2**30),
    "h100": _TEXT.format(
        **_HOPPER, name="NVIDIA H100 80GB HBM3", bandwidth=3_350_000_000_000, memory=int(79.1 * 2**30)
    ),
    "a100": _TEXT.format(
        **_AMPERE, name="NVIDIA A100-SXM4-80GB", bandwidth=2_039_000_000_000, memory=int(79.25 * 2**30)
    ),
}

LOCAL = "local"
_GPU_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
GPUS_PER_HOST = (1, 2, 4, 8)

# TPU family -> the chips of its largest slice, from docs.cloud.google.com/tpu/docs, as are the shapes below.
TPUS: dict[str, tuple[int, ...]] = {
    "v4": (16, 16, 16),
    "v5e": (16, 16),
    "v5p": (16, 16, 24),
    "v6e": (16, 16),
    "tpu7x": (16, 24, 24),
}
FLAT_SHAPES = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
# Three dimensions: below 4x4x4 these, from there on multiples of four.
SMALL_CUBES = ((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))

FAMILIES = (*TPUS, *GPU_TARGETS, LOCAL)
EXAMPLES = "v5e:4x4, v5e:16x16, v5p:4x4x4, v6e:8x8, v4:2x2x1, tpu7x:2x2x1, h200:8, h100:1, a100:8, local"


@dataclass(frozen=True)
class Topology:
    """A named set of devices. ``shape`` is the slice's in chips, or the number of GPUs; empty for ``local``."""

    name: str
    family: str
    shape: tuple[int, ...]


def read_topology(name: str) -> Topology:
    """The topology of that name. Raises ConfigError for any other, with names that would work."""
    if not name:
        raise ConfigError(f"no topology; give one with --topology=NAME, such as {EXAMPLES}")
    family, _, size = name.strip().lower().partition(":")
    family = {"7x": "tpu7x", "v7x": "tpu7x"}.get(family, family)
    if family == LOCAL and not size:
        return Topology(LOCAL, LOCAL, ())
    if family in GPU_TARGETS:
        if size not in map(str, GPUS_PER_HOST):
            raise ConfigError(f"unknown topology {name!r}; {family} comes as " + _listed(family, GPUS_PER_HOST))
        return Topology(f"{family}:{size}", family, (int(size),))
    if family in TPUS:
        shape = tuple(int(n) for n in size.split("x")) if re.fullmatch(r"\d{1,4}(x\d{1,4}){1,2}", size) else ()
        allowed = shapes_of(family)
        if shape not in allowed:
            raise ConfigError(f"unknown topology {name!r}; {_nearest_shape(family, shape, allowed)}")
        return Topology(f"{family}:{_text(shape)}", family, shape)
    close = nearest(family, FAMILIES)
    raise ConfigError(f"unknown topology {name!r}; {close if 'did you' in close else 'known are such as ' + EXAMPLES}")


def shapes_of(family: str) -> list[tuple[int, ...]]:
    """Every slice of a TPU family, smallest first."""
    if len(TPUS[family]) == 2:
        return list(FLAT_SHAPES)
    a, b, c = (range(4, n + 1, 4) for n in TPUS[family])
    cubes = [(x, y, z) for x in a for y in b for z in c if x <= y <= z]
    return sorted([*SMALL_CUBES, *cubes], key=math.prod)


def _nearest_shape(family: str, shape: tuple[int, ...], allowed: list[tuple[int, ...]]) -> str:
    same = [a for a in allowed if sorted(a) == sorted(shape)]
    if same:
        return f"did you mean '{family}:{_text(same[0])}'?"
    if not shape:
        return f"{family} comes as {_listed(family, [_text(a) for a in allowed[:8]])}" + ", ..." * (len(allowed) > 8)
    # The largest slice that is no larger, and the smallest that is.
    size = math.prod(shape)
    near = [*[a for a in allowed if math.prod(a) <= size][-1:], *[a for a in allowed if math.prod(a) > size][:1]]
    return f"the nearest slices are {' and '.join(f'{family}:{_text(a)}' for a in near)}"


def _listed(family: str, sizes: Any) -> str:
    return ", ".join(f"{family}:{size}" for size in sizes)


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def prepare_environment(topology: Topology) -> None:
    """Settings that must stand before jax or libtpu start; those that the user made stay. Raises ConfigError."""
    if topology.family == LOCAL:
        return
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    modules, extra = (("libtpu",), "tpu") if topology.family in TPUS else (_GPU_PLUGINS, "cuda")
    if not any(map(importlib.util.find_spec, modules)):
        package, install = modules[0].replace("_", "-"), f'pip install "bertjax[{extra}]"'
        raise ConfigError(f"to compile for {topology.name}, {package} must be installed: {install}")
    if topology.family in TPUS:
        # Nothing of a cluster is asked for, and several plans may be made at once: no chip is opened.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-16")
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")


def devices_of(topology: Topology) -> list[Any]:
    """The devices to compile for; only those of ``local`` exist."""
    import jax
    from jax.experimental import topologies

    if topology.family == LOCAL:
        return jax.devices()
    if topology.family in GPU_TARGETS:
        jax.devices()  # registers the plugins
        options = {"topology": f"1x1x{topology.shape[0]}", "target_config": GPU_TARGETS[topology.family]}
        return list(topologies.get_topology_desc(topology.family, "cuda", **options).devices)
    options: dict[str, Any] = {}  # of libtpu
    if topology.family == "v4":
        options["chip_config_name"] = "megacore"  # a chip's two cores are one device, as in real runs
    if math.prod(topology.shape) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    return list(topologies.get_topology_desc(topology.name, "tpu", **options).devices)
