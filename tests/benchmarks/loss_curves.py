"""Loss curves of several precisions on the same batches, with the same first weights and dropout masks.

python tests/benchmarks/loss_curves.py [--config=tiny] [--steps=300] [--runs=float32,float32/2,bfloat16,bfloat16@tpu]
    [--plot=FILE.png] [--json] [--config.KEY=VALUE ...]

A run is a precision, and after an ``@`` the backend whose dtypes it takes: ``bfloat16@tpu`` keeps activations in
bfloat16 on a CPU too, as accelerators do. ``float32/2`` does each batch in two parts: the same to the last bits, which
tells how far curves part by themselves. Every run is compared with the first: by the largest relative difference of the
losses of a step, and of their means over 20 steps. BERTJAX_EMULATE_FP8=1 in the environment lets fp8 run on a CPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from typing import Any

import numpy as np

from bertjax.cli.flags import parse
from bertjax.config import resolve

WINDOW = 20


def curve(run: Any, corpus: Any, backend: str | None, steps: int) -> list[float]:
    """The loss of each step of the first phase."""
    from bertjax.engine import job as engine_job
    from bertjax.model.precision import precision_named
    from bertjax.objectives.registry import phase_settings
    from bertjax.parallel.mesh import make_mesh
    from bertjax.train.corpus_position import CorpusPosition
    from bertjax.train.pretraining import training_batches
    from bertjax.train.pretraining_job import make_job

    engine_job.precision_named = lambda name, own: precision_named(name, backend or own)
    mesh, phase = make_mesh(-1, 1, 1), next(iter(run.phases.values()))
    job, losses = make_job(run, mesh), []
    settings = [phase_settings(run, index) for index in range(len(run.phases))]
    step, state = job.train_step(phase), job.initial_state()
    with training_batches(run, corpus, settings, mesh, 0, CorpusPosition()) as batches:
        for _ in range(steps):
            state, metrics = step(state, next(batches)[0])
            losses.append(float(metrics["loss"]))
    return losses


def compared(losses: list[float], with_first: list[float]) -> dict[str, float]:
    one, other = np.array(losses), np.array(with_first)
    smooth = lambda x: np.convolve(x, np.ones(WINDOW) / WINDOW, "valid")
    worst = np.abs(one / other - 1)
    return {
        "last": one[-1],
        "largest_difference": float(worst.max()),
        "at_step": int(worst.argmax()) + 1,
        "mean_difference": float(worst.mean()),
        "largest_difference_of_means": float(np.abs(smooth(one) / smooth(other) - 1).max()),
    }


def plot(curves: dict[str, list[float]], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(8, 7), sharex=True)
    first = np.array(next(iter(curves.values())))
    for name, losses in curves.items():
        above.plot(range(1, len(losses) + 1), losses, label=name, linewidth=1)
        below.plot(range(1, len(losses) + 1), 100 * (np.array(losses) / first - 1), label=name, linewidth=1)
    above.set(ylabel="loss of the step")
    below.set(xlabel="step", ylabel=f"difference from {next(iter(curves))}, %")
    above.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--runs", default="float32,float32/2,bfloat16,bfloat16@tpu")
    parser.add_argument("--plot")
    parser.add_argument("--json", action="store_true")
    options, overrides = parser.parse_known_args()
    config, _ = parse("loss_curves", [f"--config={options.config}", *overrides], {})

    from bertjax.benchmarking.opened_run import opened_run

    run, corpus, _ = opened_run(resolve(config), lambda line: None)
    curves = {}
    for name in options.runs.split(","):
        precision, parts, backend = re.fullmatch(r"(\w+)(?:/(\d+))?(?:@(\w+))?", name).groups()
        rows = next(iter(run.phases.values())).batch_size // int(parts or 1)
        parallel = dataclasses.replace(run.parallel, rows_per_device=rows)
        one = dataclasses.replace(run, precision=precision, parallel=parallel)
        curves[name] = curve(one, corpus, backend, options.steps)
    first = next(iter(curves.values()))
    found = {name: compared(losses, first) for name, losses in curves.items()}
    if options.plot:
        plot(curves, options.plot)
    if options.json:
        print(json.dumps({"steps": options.steps, "runs": found, "curves": curves}))
        return
    for name, one in found.items():
        print(
            f"{name:<14} last loss {one['last']:.4f}; largest difference of a step {one['largest_difference']:.3%}, in "
            f"step {one['at_step']}; mean {one['mean_difference']:.3%}; of means over {WINDOW} steps at most "
            f"{one['largest_difference_of_means']:.3%}"
        )


if __name__ == "__main__":
    main()
