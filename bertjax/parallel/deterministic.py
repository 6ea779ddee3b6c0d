"""The same sums at every start, on GPUs too: what XLA has to be told before jax starts, and whether it does it right.

On GPUs values are scattered with atomic additions, in the order in which they happen to come, and the kernels of
products are the ones that won a race when they were compiled. CPUs and TPUs need nothing of this.
"""

import importlib.metadata
import importlib.util
import os
import pkgutil
import subprocess
import sys
from typing import Any

from bertjax.errors import ConfigError

# Operations in a fixed order; no kernel is chosen by its time.
FLAGS = {"--xla_gpu_deterministic_ops": "true", "--xla_gpu_autotune_level": "0"}
_SECONDS = 120.0
_KEY = "config.deterministic = True"


def make_deterministic() -> None:
    """Adds ``FLAGS`` to the environment's XLA_FLAGS where jax has a plugin for GPUs; they hold for all that this
    process does from here on.

    Raises ConfigError where jax has started on GPUs without them, or XLA does not know one of them.
    """
    given = os.environ.get("XLA_FLAGS", "")
    in_force = dict(flag.partition("=")[::2] for flag in given.split())  # of a flag that is given twice the last one
    missing = [f"{name}={value}" for name, value in FLAGS.items() if in_force.get(name) != value]
    if not missing or not has_gpu_plugin():
        return
    flags = " ".join(missing)
    if _has_started():
        import jax

        if jax.default_backend() == "gpu":
            raise ConfigError(
                f"{_KEY} comes too late: jax runs on GPUs already, and reads XLA_FLAGS when it starts; set "
                f"XLA_FLAGS='{flags}' before, or use the command"
            )
        return
    _check_known(flags)
    os.environ["XLA_FLAGS"] = f"{given} {flags}".strip()


def has_gpu_plugin() -> bool:
    """Whether jax finds a plugin for CUDA or ROCm, as it finds them itself: in ``jax_plugins`` or by entry points."""
    spec = importlib.util.find_spec("jax_plugins")
    places = spec.submodule_search_locations if spec is not None else None
    names = [module.name for module in pkgutil.iter_modules(list(places or []))]
    names += [entry.name for entry in importlib.metadata.entry_points(group="jax_plugins")]
    return any("cuda" in name or "rocm" in name for name in names)


def check_sums() -> None:
    """Raises ConfigError where a GPU scatters wrongly, as some versions of XLA did in a fixed order (jax#27796)."""
    import jax

    device = jax.local_devices()[0]
    if device.platform == "gpu" and not scatters_right(device):
        raise ConfigError(
            f"{_KEY}, but this version of jaxlib scatters wrongly in a fixed order; use another one, or set it to False"
        )


def scatters_right(device: Any) -> bool:
    """Whether values land, and are added up, where they should, on an example of each; exact, as they are integers."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    rows = (np.arange(500 * 8) % 101).reshape(500, 8).astype(np.float32)
    order, places = np.arange(500)[::-1], np.arange(500) ** 2 % 37
    sums = np.zeros((37, 8), np.float32)
    np.add.at(sums, places, rows)
    put = lambda rows, order: jnp.zeros((500, 8)).at[order].set(rows)
    add = lambda rows, places: jnp.zeros((37, 8)).at[places].add(rows)
    found = [jax.jit(f)(*jax.device_put((rows, to), device)) for f, to in ((put, order), (add, places))]
    return all(np.array_equal(one, expected) for one, expected in zip(found, (rows[::-1], sums), strict=True))


def _has_started() -> bool:
    if "jax" not in sys.modules:
        return False
    from jax._src import xla_bridge

    return xla_bridge.backends_are_initialized()


def _check_known(flags: str) -> None:
    """Raises ConfigError where XLA does not know the flags: it would abort the process without a word about why."""
    environ = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    try:
        ended = subprocess.run(command, env=environ, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):  # XLA itself will tell
        return
    if ended.returncode:
        raise ConfigError(f"{_KEY} needs XLA_FLAGS='{flags}', which this version of jaxlib does not take")
