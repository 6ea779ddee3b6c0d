"""Pretraining on a CPU, side by side: bertjax against transformers + PyTorch, each the whole step.

python tests/benchmarks/cpu_against_torch.py [--shapes=small,base128,base512] [--precision=float32,bfloat16]
    [--rounds=3] [--seconds=6] [--attention=sdpa] [--gather] [--json] [--config.KEY=VALUE ...]

Same shapes, same batch, same precision, dropout .1, clipping, AdamW. Each side is a process of its own; they take
turns, the other one waiting, and the medians of all rounds are compared, in real tokens a second. What compiling takes
is left out. ``--config.KEY=VALUE`` changes keys of bertjax's config (``--config.model.scan_layers=true``).

``products`` is the rate in GFLOP/s that the products of the model's layers reach by themselves, in the same process
and the same turns, each forward and with both its gradients, every product a program of its own; ``step / products``
is what share of it the whole step reaches.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pretraining_shapes import SHAPES, Shape, synthetic_batch

ROOT = Path(__file__).parent.parent.parent
Timed = Callable[[float], dict[str, float]]  # seconds to spend -> figures


def tokens_per_second(shape: Shape, step: Callable[[], Any], seconds: float) -> float:
    times = [time.perf_counter()]
    while len(times) < 3 or times[-1] - times[0] < seconds:
        step()
        times.append(time.perf_counter())
    return shape.rows * shape.length / statistics.median(b - a for a, b in itertools.pairwise(times))


# --- bertjax ----------------------------------------------------------------------------------------------------------


def config_of(shape: Shape, precision: str, changes: list[str]) -> Any:
    from bertjax.config import default_config, phase

    config = default_config()
    config.precision = precision
    config.model.update(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
    )
    config.optimizer.name = "adamw"
    config.phases.phase1 = phase(
        sequence_length=shape.length,
        batch_size=shape.rows,
        steps=1000,
        max_predictions=shape.predictions,
        learning_rate=1e-4,
        warmup_steps=10,
    )
    for change in changes:
        name, _, value = change.removeprefix("--config.").partition("=")
        *sections, key = name.split(".")
        section = config
        for part in sections:
            section = section[part]
        section[key] = {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
    return config


def bertjax_side(shape: Shape, options: argparse.Namespace) -> Timed:
    from bertjax.__main__ import COMMANDS

    COMMANDS["train"].set_heaps()  # as the command does

    import jax

    from bertjax.config import resolve
    from bertjax.model.flops import train_flops_per_row
    from bertjax.parallel.mesh import make_mesh
    from bertjax.parallel.sharding import to_global
    from bertjax.train.pretraining_job import make_job

    run = resolve(config_of(shape, options.precision, options.changes))
    mesh = make_mesh(-1, 1, 1)
    job = make_job(run, mesh)
    step, state = job.train_step(next(iter(run.phases.values()))), job.initial_state()
    batch = to_global(synthetic_batch(shape), mesh)

    def take() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    for _ in range(3):
        take()
    products = layer_products(shape, options.precision)
    flops = train_flops_per_row(run.model, shape.length, shape.predictions) / shape.length

    def timed(seconds: float) -> dict[str, float]:
        tokens = tokens_per_second(shape, take, seconds)
        return {"tokens": tokens, "step_gflops": tokens * flops / 1e9, "products_gflops": products(seconds / 3)}

    return timed


def layer_products(shape: Shape, precision: str) -> Callable[[float], float]:
    """``seconds -> GFLOP/s`` of the products of one layer, forward and backward, each compiled by itself."""
    import jax
    import jax.numpy as jnp

    T, B, S, H, F = shape.rows * shape.length, shape.rows, shape.length, shape.hidden, shape.intermediate
    N, D = shape.heads, shape.hidden // shape.heads
    dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[precision]
    # (einsum, shapes of its factors, how many of them a layer has)
    linear = [("ti,io->to", (T, i), (i, o), n) for i, o, n in ((H, H, 4), (H, F, 1), (F, H, 1))]
    linear += [("to,io->ti", (T, o), (i, o), n) for i, o, n in ((H, H, 4), (H, F, 1), (F, H, 1))]
    linear += [("ti,to->io", (T, i), (T, o), n) for i, o, n in ((H, H, 4), (H, F, 1), (F, H, 1))]
    square, thin = (B, N, S, S), (B, N, S, D)
    attention = [("bnqd,bnkd->bnqk", thin, thin, 2), ("bnqk,bnkd->bnqd", square, thin, 2)]
    attention += [("bnqk,bnqd->bnkd", square, thin, 2)]
    programs = []
    for spec, a, b, count in linear + attention:
        letters, sizes = spec.split("->")[0].replace(",", ""), (*a, *b)
        flops = 2.0 * math.prod(dict(zip(letters, sizes, strict=True)).values())
        keys = jax.random.split(jax.random.key(0))
        factors = [
            jax.random.normal(key, dims, jnp.float32).astype(dtype) for key, dims in zip(keys, (a, b), strict=True)
        ]
        product = jax.jit(lambda x, y, spec=spec: jnp.einsum(spec, x, y, preferred_element_type=jnp.float32))
        jax.block_until_ready(product(*factors))
        programs.append((product, factors, count, flops * count))

    def rate(seconds: float) -> float:
        spent, total = 0.0, sum(flops for *_, flops in programs)
        for product, factors, count, flops in programs:
            share, times = seconds * flops / total, []
            while len(times) < 5 or sum(times) < share:
                began = time.perf_counter()
                jax.block_until_ready(product(*factors))
                times.append(time.perf_counter() - began)
            spent += count * statistics.median(times)
        return total / spent / 1e9

    return rate


# --- The peer ---------------------------------------------------------------------------------------------------------


def torch_side(shape: Shape, options: argparse.Namespace) -> Timed:
    import torch_pretraining as peer

    arguments = [f"--precision={options.precision}", f"--attention={options.attention}"]
    arguments += [f"--{name}" for name in ("gather", "compile") if getattr(options, name)]
    step = peer.make_step(shape, peer.parser().parse_args(arguments))
    for _ in range(3):
        step()
    return lambda seconds: {"tokens": tokens_per_second(shape, step, seconds)}


# --- Both -------------------------------------------------------------------------------------------------------------

SIDES = {"bertjax": bertjax_side, "transformers": torch_side}


def work(options: argparse.Namespace) -> None:
    """One side: answers every line on standard input with its figures."""
    timed = SIDES[options.side](SHAPES[options.shapes], options)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(options.seconds)), flush=True)


def compare(shape: str, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Starts both sides, lets them take turns, and returns medians."""
    sides, environment = {}, os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    environment["JAX_PLATFORMS"] = "cpu"
    for name in SIDES:
        command = [sys.executable, __file__, *sys.argv[1:], f"--side={name}"]
        command += [f"--shapes={shape}", f"--precision={precision}"]
        settings: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        sides[name] = subprocess.Popen(command, env=environment, **settings)
        if sides[name].stdout.readline() != "ready\n":
            sys.exit(f"error: {name} did not start")
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for _ in range(options.rounds):
        for name, side in sides.items():
            side.stdin.write("go\n")
            side.stdin.flush()
            figures[name].append(json.loads(side.stdout.readline()))
    for side in sides.values():
        side.stdin.close()
        side.wait()
    ours, theirs = figures["bertjax"], figures["transformers"]
    ratios = [a["tokens"] / b["tokens"] for a, b in zip(ours, theirs, strict=True)]
    middle = lambda values: statistics.median(list(values))
    return {
        "shape": shape,
        "precision": precision,
        "bertjax": middle(one["tokens"] for one in ours),
        "transformers": middle(one["tokens"] for one in theirs),
        "ratio": middle(ratios),
        "ratios": [min(ratios), max(ratios)],
        "step_gflops": middle(one["step_gflops"] for one in ours),
        "products_gflops": middle(one["products_gflops"] for one in ours),
        "step_of_products": middle(one["step_gflops"] / one["products_gflops"] for one in ours),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--shapes", default="small,base128,base512")
    parser.add_argument("--precision", default="float32,bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="a turn of one side")
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa", help="of the peer")
    parser.add_argument("--gather", action="store_true", help="the peer's head on masked positions alone")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options, options.changes = parser.parse_known_args()
    if unknown := [change for change in options.changes if not change.startswith("--config.")]:
        parser.error(f"unknown argument {unknown[0]}")
    if options.side:
        work(options)
        return
    for shape in options.shapes.split(","):
        for precision in options.precision.split(","):
            found = compare(shape, precision, options)
            low, high = found["ratios"]
            if options.json:
                print(json.dumps(found), flush=True)
                continue
            print(
                f"{shape} {precision}: bertjax {found['bertjax']:,.0f}, transformers {found['transformers']:,.0f} real "
                f"tokens a second; ratio {found['ratio']:.2f} ({low:.2f} to {high:.2f}); step "
                f"{found['step_gflops']:.0f} GFLOP/s, products {found['products_gflops']:.0f}, step / products "
                f"{found['step_of_products']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
