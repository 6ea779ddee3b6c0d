"""Whether the attention kernels are right on the device at hand, held against ``explicit``.

python tests/benchmarks/kernels_on_device.py [--small] [--seconds=N]

For every kernel that runs here, rows of 128, 512 and 1,024 packed positions, with and without window, with and
without dropout, in float32 and bfloat16:

  parity      the largest differences of output and gradients from explicit attention in float32
  leakage     the largest gradient that reaches an example from a loss on another: exactly 0
  dropout     elements whose mask is not that of explicit, by rows of one-hot values that show every probability
  repeats     calls whose results differ from the first in any bit

Prints one JSON object: ``right`` says whether all of these hold within the bars, ``checks`` has them one by one. After
``--seconds`` no further check is begun; ``left_out`` counts those. ``--small``: short rows, on CPUs the fused kernel in
Pallas's interpreter.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.attention_kernels import KERNELS
from bertjax.benchmarking.attention_cases import Arrays, Case, differences, forward, forward_and_backward, random_arrays
from bertjax.cli.showing import short
from bertjax.model.precision import FLOAT32, Precision, precision_named

# Largest differences in float32. In lower precisions: 1.5 times that of explicit in the same precision, and this.
OUTPUT_BAR, GRADIENT_BAR = 2e-6, 1e-5
LOWER_BAR = 2e-3
REPEATS = 20
RATE = 0.1


def cases(small: bool) -> list[Case]:
    """The most telling first, should the time run out: dropout, as in the recipe of 2018."""
    sizes = [(32, 2, 32)] if small else [(128, 12, 64), (512, 12, 64), (1024, 4, 64), (512, 4, 128), (512, 8, 32)]
    whole = [Case(2 if small else 4, length, heads, size, examples=3) for length, heads, size in sizes]
    options = [(RATE, None), (0.0, None), (RATE, 8 if small else 128)]
    return [dataclasses.replace(case, rate=rate, window=window) for rate, window in options for case in whole]


def check(name: str, case: Case, precision: Precision) -> dict[str, Any]:
    arrays = random_arrays(case).cast(precision.activations)
    run = forward_and_backward(name, case, precision)
    found = run(arrays)
    wanted = forward_and_backward("explicit", case, FLOAT32)(arrays.cast(np.float32))
    row = differences(found, wanted) | {"bars": [OUTPUT_BAR, GRADIENT_BAR]}
    if precision.operands != jnp.float32:
        plain = differences(forward_and_backward("explicit", case, precision)(arrays), wanted)
        row["bars"] = [max(1.5 * value, LOWER_BAR) for value in plain.values()]
    same = lambda a, b: all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    row["repeats_that_differ"] = sum(not same(run(arrays), found) for _ in range(REPEATS))
    row["leakage"] = leakage(run, arrays)
    row["masks_that_differ"] = masks_that_differ(name, case, precision) if case.rate else 0
    within = [row["output_difference"], row["gradient_difference"]]
    exact = row["repeats_that_differ"] == row["leakage"] == row["masks_that_differ"] == 0
    row["right"] = exact and all(value <= bar for value, bar in zip(within, row["bars"], strict=True))
    return row


def leakage(run: Any, arrays: Arrays) -> float:
    """The largest gradient of a loss on the second example with respect to keys and values of all others."""
    own = arrays.ids == 2
    cotangent = jnp.where(own[:, :, None, None], arrays.cotangent, 0)
    gradients = run(arrays._replace(cotangent=cotangent)).gradients
    reached = max(float(jnp.abs(jnp.where(own[:, :, None, None], 0, g)).max()) for g in gradients)
    assert any(float(jnp.abs(g).max()) > 0 for g in gradients), "the loss on an example has no gradient at all"
    return reached


def masks_that_differ(name: str, case: Case, precision: Precision) -> int:
    """Query and key of zeros make all probabilities of an example equal; one-hot values show them, D keys at a time."""
    S, D = case.length, case.head_size
    zeros = jnp.zeros((case.rows, S, case.heads, D), precision.activations)
    arrays = random_arrays(case)._replace(query=zeros, key=zeros)
    ours, theirs = forward(name, case, precision), forward("explicit", case, FLOAT32)
    different = kept = shown = 0
    for start in range(0, S, D):
        one_hot = (jnp.arange(S)[:, None] == start + jnp.arange(D)[None, :]).astype(precision.activations)
        value = jnp.broadcast_to(one_hot[None, :, None], zeros.shape)
        a = np.asarray(ours(arrays._replace(value=value))) != 0
        b = np.asarray(theirs(arrays._replace(value=value, query=zeros, key=zeros).cast(jnp.float32))) != 0
        different, kept, shown = different + int((a != b).sum()), kept + int(b.sum()), shown + b.size
    assert 0 < kept < shown, "no mask was shown"
    return different


def checks(small: bool, seconds: float) -> Iterator[dict[str, Any]]:
    began, backend = time.monotonic(), jax.default_backend()
    for case in cases(small):
        for kernel_name, kernel in KERNELS.items():
            for name in ("bfloat16", "float32"):
                precision = precision_named(name, backend)
                interpreted = small and backend == "cpu" and kernel_name == "fused"
                lacks = case.demand(None if interpreted else backend, precision).lacking(kernel)
                if kernel_name == "explicit" or lacks:
                    continue
                row = {"kernel": kernel_name, "precision": name, **dataclasses.asdict(case)}
                if time.monotonic() - began > seconds:
                    yield row | {"left_out": True}
                    continue
                try:
                    yield row | check(kernel_name, case, precision)
                except Exception as error:  # of a compiler, say: it is a finding, and the other checks go on
                    yield row | {"right": False, "error": f"{type(error).__name__}: {short(error, 400)}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=100.0)
    options = parser.parse_args()
    found = list(checks(options.small, options.seconds))
    made = [row for row in found if "left_out" not in row]
    result = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "right": bool(made) and all(row["right"] for row in made),
        "kernels": sorted({row["kernel"] for row in made}),
        "wrong": [row for row in made if not row["right"]],
        "left_out": len(found) - len(made),
        "checks": made,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
