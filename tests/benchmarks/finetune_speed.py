"""Fine-tuning side by side: bertjax against a transformers + PyTorch loop, which pads to the longest row of the batch.

python tests/benchmarks/finetune_speed.py --model=DIR --train=FILE.tsv [--rounds=7] [--steps=40] [--batch_size=32]
    [--precision=bfloat16] [--batches=bucketed]

``--batches`` is the peer's: random as in most loops ("longest"), or sorted by length a hundred at a time as here. Same
model, same examples, same precision, dropout on, the whole update. Each side is a process of its own; they take turns,
the other one waiting, and the medians of all rounds are compared. Real tokens a second: padding does not count. What
compiling takes is left out here; it is in the seconds of a whole run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def bertjax_side(options: argparse.Namespace) -> Callable[[], int]:
    """A function that takes one step and returns its real tokens."""
    import jax

    from bertjax.finetune.model_and_examples import open_start, read_examples
    from bertjax.finetune.settings import default_config, resolve, trials
    from bertjax.finetune.trial_job import make_job
    from bertjax.finetune.trials import TASK_SETUPS, Labelled
    from bertjax.memory import keep_memory
    from bertjax.parallel.mesh import make_mesh
    from bertjax.parallel.sharding import to_global

    keep_memory()  # as the command does
    config = default_config("classification")
    config.precision = options.precision
    config.training.batch_size = options.batch_size
    config.training.epochs = "2"
    run = resolve(config)
    start = open_start(options.model, run)
    examples = read_examples(options.train, run, held_out=False)
    setup = TASK_SETUPS[run.task](run, Labelled(examples, examples[:64], start.tokenizer))
    mesh = make_mesh(-1, 1, 1)
    job = make_job(run, trials(run)[0], start, setup, mesh, {})
    step = job.train_step()
    state = job.initial_state()
    numbers = itertools.count()

    def take(wanted: int | None = None) -> int:
        nonlocal state
        while True:
            rows, length = job.train_batches.training(0, next(numbers))
            if wanted is None or length == wanted:
                break
        state, metrics = step(length, state, to_global(job.train_batches.make(rows, length), mesh), *job.constants)
        jax.block_until_ready(metrics)
        return int(setup.train.lengths[rows[rows >= 0]].sum())

    for length in job.train_batches.row_lengths:  # each is compiled once
        take(int(length))
    return take


def torch_side(options: argparse.Namespace) -> Callable[[], int]:
    import numpy as np
    import torch_finetune as peer
    import transformers

    transformers.logging.set_verbosity_error()
    arguments = [f"--model={options.model}", f"--train={options.train}", f"--eval={options.train}"]
    settings = peer.parser().parse_args(
        [*arguments, f"--batch_size={options.batch_size}", f"--precision={options.precision}"]
    )
    task = peer.classification(transformers.BertTokenizerFast.from_pretrained(options.model), settings)
    transformers.set_seed(0)
    model = task.make(options.model)
    model.train()
    update = peer.make_update(model, 2 * len(task.train) // options.batch_size, settings)
    stream = peer.batches(
        task.train, options.batch_size, np.random.default_rng(0), bucketed=options.batches == "bucketed"
    )

    def take() -> int:
        rows = next(stream)
        update(rows)
        return sum(len(row["input_ids"]) for row in rows)

    return take


SIDES = {"bertjax": bertjax_side, "transformers": torch_side}


def work(options: argparse.Namespace) -> None:
    """One side: answers every line on standard input with the real tokens a second of so many steps."""
    take = SIDES[options.side](options)
    for _ in range(5):
        take()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        tokens = sum(take() for _ in range(options.steps))
        print(json.dumps(tokens / (time.perf_counter() - began)), flush=True)


def compare(rounds: int) -> None:
    """Starts both sides with this command's arguments, lets them take turns and prints the medians."""
    sides, environment = {}, os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    for name in SIDES:
        command = [sys.executable, __file__, *sys.argv[1:], f"--side={name}"]
        settings = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
        sides[name] = subprocess.Popen(command, **settings)
        if sides[name].stdout.readline() != "ready\n":
            sys.exit(f"error: {name} did not start")
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    for number in range(rounds):
        for name, side in sides.items():
            side.stdin.write("go\n")
            side.stdin.flush()
            rates[name].append(json.loads(side.stdout.readline()))
        print(f"round {number + 1}: " + ", ".join(f"{name} {rates[name][-1]:,.0f}" for name in sides), flush=True)
    for side in sides.values():
        side.stdin.close()
        side.wait()
    ratios = [ours / theirs for ours, theirs in zip(*rates.values(), strict=True)]
    for name, values in rates.items():
        print(f"{name}: {statistics.median(values):,.0f} real tokens a second (median of {len(values)})")
    print(f"bertjax / transformers: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batches", choices=("longest", "bucketed"), default="longest")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        work(options)
    else:
        compare(options.rounds)


if __name__ == "__main__":
    main()
