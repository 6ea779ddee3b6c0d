"""Which precision is the faster one on this device: ``config.precision = "auto"``, and a warning for a slow choice.

TPUs and GPUs are built for bfloat16. Among CPUs some multiply bfloat16 at twice the speed of float32, others convert it
first; what rounding costs beside the products depends on the model. So there a layer's MLP is timed in both.
"""

import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from bertjax.config import ModelConfig
from bertjax.model.layers import ACTIVATIONS
from bertjax.model.lean import activated_project
from bertjax.model.precision import precision_named

CHOICES = ("float32", "bfloat16")
_TURNS = 5
_MOST_TOKENS = 1024  # enough for the full rate, few enough for a second
_LEAST_WEIGHTS = 1 << 16  # of smaller matrices nobody waits for the products
_CLEARLY = 1.1  # less is noise


def mlp_seconds(model: ModelConfig, tokens: int, names: tuple[str, ...] = CHOICES) -> dict[str, float]:
    """Seconds of forward and backward pass of one MLP on so many tokens, by precision; the best of a few turns."""
    H, F = model.hidden_size, model.intermediate_size
    shapes = {"x": (min(tokens, _MOST_TOKENS), H), "into": (H, F), "b_into": (F,), "out": (F, H), "b_out": (H,)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    arrays = {name: jax.random.normal(key, shapes[name]) for name, key in zip(shapes, keys, strict=True)}
    programs = {name: _mlp_gradient(model, name) for name in names}
    found = dict.fromkeys(names, float("inf"))
    for turn in range(_TURNS + 1):
        for name, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(arrays))
            if turn:  # the first one compiles
                found[name] = min(found[name], time.perf_counter() - began)
    return found


def _mlp_gradient(model: ModelConfig, name: str) -> Callable[[Mapping[str, jax.Array]], Mapping[str, jax.Array]]:
    precision = precision_named(name, "cpu")

    def loss(arrays: Mapping[str, jax.Array]) -> jax.Array:
        inside = precision.project(arrays["x"], arrays["into"], arrays["b_into"])
        activation = ACTIVATIONS[model.hidden_act]
        out = activated_project(activation, precision, inside, arrays["out"], arrays["b_out"])
        return jnp.square(out).sum()

    return jax.jit(jax.grad(loss))


def faster_precision(model: ModelConfig, tokens: int, platform: str) -> tuple[str, str]:
    """(the faster one of ``CHOICES`` for a step of so many tokens, why in words)"""
    if platform != "cpu":
        return "bfloat16", f"a {platform} multiplies it fastest"
    seconds = mlp_seconds(model, tokens)
    best = min(seconds, key=seconds.__getitem__)
    return best, "an MLP takes " + ", ".join(f"{1e3 * seconds[name]:.1f} ms in {name}" for name in CHOICES)


def slow_precision(model: ModelConfig, precision: str, tokens: int, platform: str) -> list[str]:
    """A warning where ``precision`` is slower on this CPU than float32."""
    H, F = model.hidden_size, model.intermediate_size
    if platform != "cpu" or precision not in ("bfloat16", "float16") or H * F < _LEAST_WEIGHTS:
        return []
    seconds = mlp_seconds(model, tokens, ("float32", precision))
    if seconds[precision] < _CLEARLY * seconds["float32"]:
        return []
    times = f"{1e3 * seconds[precision]:.1f} against {1e3 * seconds['float32']:.1f} ms for an MLP"
    return [
        f"config.precision = {precision!r} is slower on this CPU than float32 ({times}); use "
        f"--config.precision=float32, or =auto, which takes the faster one"
    ]
