"""What XLA's GPU compiler asks about a GPU that is not there (its message ``GpuTargetConfigProto``, as text)."""

from __future__ import annotations

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
