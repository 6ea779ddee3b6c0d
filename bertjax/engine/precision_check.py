"""Whether the devices of a run have products of its precision."""

import math
import os
from typing import Any

from jax.sharding import Mesh

from bertjax.config import ModelConfig
from bertjax.errors import ConfigError

# Set in the environment, it lets runs in fp8 compute on a CPU: for tests, and to look at loss curves.
EMULATE_FP8 = "BERTJAX_EMULATE_FP8"
LEAST_HIDDEN_IN_FP8 = 1024


def check_precision(precision: str, mesh: Mesh, model: ModelConfig) -> None:
    """Raises ConfigError if the devices have no products of this precision, or the model is too small for it."""
    device = _device(mesh)
    if precision == "tf32" and device.platform == "gpu" and _capability(device) < 8.0:
        raise ConfigError(
            f"config.precision = 'tf32' needs a GPU of the Ampere generation or later, not {device.device_kind}; use "
            "'float32' or 'float16'"
        )
    if precision != "fp8":
        return
    # Emulated on CPUs, slowly, where the environment asks for it: for any size.
    if device.platform == "cpu" and os.environ.get(EMULATE_FP8):
        return
    if device.platform != "gpu" or _capability(device) < 9.0:
        kind = device.device_kind
        raise ConfigError(
            f"config.precision = 'fp8' needs a GPU of the Hopper generation or later, not {kind}; use 'bfloat16'"
        )
    if model.hidden_size < LEAST_HIDDEN_IN_FP8:
        raise ConfigError(
            f"config.precision = 'fp8' is for models with hidden_size of {LEAST_HIDDEN_IN_FP8} or more, not "
            f"{model.hidden_size}: on smaller products scaling takes longer than it saves; use 'bfloat16'"
        )


def _device(mesh: Mesh) -> Any:
    return mesh.devices.flat[0]


def _capability(device: Any) -> float:
    return float(getattr(device, "compute_capability", math.inf))  # not known of a device that is only compiled for
