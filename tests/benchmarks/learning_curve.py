"""python tests/benchmarks/learning_curve.py [--corpus=SPEC] [--steps=200] [--clip_norm=0] [--plot=FILE.png]

The learning curve of bertjax beside that of ``transformers.BertForPreTraining`` trained under PyTorch: from the
same initial weights, on the same batches of real text, in float32 and without dropout. Both losses have to stay
within 1e-3 of each other at every step; the exit code is 1 where they do not.

The batches are bertjax's, with packing off, as the peer knows one pair a row. Everything after them is done twice:
here by the train step of a real run, there by what PyTorch and transformers bring along - the model, the cross
entropies, AdamW with its two groups of parameters, with --clip_norm the clipping - and by the learning rate written
out once more.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import jax
import numpy as np

from bertjax.config import DataConfig, ModelConfig, OptimizerConfig, PhaseConfig, RunConfig, resolve, to_dict
from bertjax.data.corpus.arrays import PreparedCorpus
from bertjax.data.corpus.prepared import prepare
from bertjax.data.stream.pipeline import open_batches
from bertjax.interop.huggingface import export_model
from bertjax.objectives.registry import phase_settings
from bertjax.parallel.mesh import make_mesh
from bertjax.parallel.sharding import to_global
from bertjax.train.pretraining_job import make_job

BAR = 1e-3  # nats, at every step, of each loss
LOSSES = ("mlm_loss", "nsp_loss", "loss")
REAL_TEXT = "corpus/wiki_en_small.jsonl.xz"

MODEL = ModelConfig(
    vocab_size=8192,
    hidden_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=1024,
    hidden_act="gelu_new",
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
PHASE = PhaseConfig(
    sequence_length=128, batch_size=16, steps=200, max_predictions=20, learning_rate=1e-3, warmup_steps=20
)


def run_of(model: ModelConfig, phase: PhaseConfig, clip_norm: float = 0.0) -> RunConfig:
    """A run of one phase with what the two sides have in common: AdamW, float32, a pair a row."""
    run = RunConfig(
        model=model,
        data=DataConfig(packing=False, objective="mlm_nsp"),
        phases={"phase1": phase},
        optimizer=OptimizerConfig(name="adamw", weight_decay=0.01, clip_norm=clip_norm),
        precision="float32",
    )
    return resolve(to_dict(run))  # checked like any other config


def read_batches(corpus: PreparedCorpus, run: RunConfig) -> list[dict[str, np.ndarray]]:
    """The batches of the whole run, as ``bertjax.train`` would read them."""
    phase, settings = run.phases["phase1"], phase_settings(run, 0)
    with open_batches(corpus.train, corpus.tokenizer, [settings], run.seed, 0, phase.batch_size) as batches:
        return [batch for batch, _ in islice(batches, phase.steps)]


def bertjax_losses(
    run: RunConfig, batches: Sequence[dict[str, np.ndarray]], corpus: PreparedCorpus, initial: Path
) -> np.ndarray:
    """[steps, 3] in the order of ``LOSSES``. The initial weights are exported to the folder ``initial``."""
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    job = make_job(run, mesh)
    state, step = job.initial_state(), job.train_step(run.phases["phase1"])
    export_model(initial, run.model, jax.device_get(state.params), corpus.tokenizer)
    losses = []
    for batch in batches:
        state, metrics = step(state, to_global(batch, mesh))
        losses.append([float(metrics[name]) for name in LOSSES])
    return np.array(losses)


def peer_losses(run: RunConfig, batches: Sequence[dict[str, np.ndarray]], initial: Path) -> np.ndarray:
    """[steps, 3] in the order of ``LOSSES``: a PyTorch training loop that begins with the weights in ``initial``."""
    import torch
    import transformers
    from torch.nn.functional import cross_entropy

    transformers.utils.logging.disable_progress_bar()
    phase, settings = run.phases["phase1"], run.optimizer
    model = transformers.BertForPreTraining.from_pretrained(initial).train()
    named = dict(model.named_parameters())  # tied weights once
    exempt = [p for name, p in named.items() if name.endswith(".bias") or ".LayerNorm." in name]
    decayed = [p for name, p in named.items() if not (name.endswith(".bias") or ".LayerNorm." in name)]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": exempt, "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=settings.eps)

    losses = []
    for done, batch in enumerate(batches):
        labels = np.full(batch["input_ids"].shape, -100)
        rows, slots = np.nonzero(batch["masked_lm_weights"])
        labels[rows, batch["masked_lm_positions"][rows, slots]] = batch["masked_lm_ids"][rows, slots]
        output = model(
            input_ids=torch.tensor(batch["input_ids"]),
            token_type_ids=torch.tensor(batch["token_type_ids"]),
            attention_mask=torch.tensor(batch["example_ids"] > 0),
        )
        mlm = cross_entropy(output.prediction_logits.flatten(0, 1), torch.tensor(labels).flatten(), ignore_index=-100)
        next_sentence = torch.tensor(batch["next_sentence_labels"][:, 0]).long()
        nsp = cross_entropy(output.seq_relationship_logits, next_sentence)
        loss = mlm + nsp

        optimizer.zero_grad()
        loss.backward()
        if settings.clip_norm:
            # What clip_grad_norm_ does, but with the norm summed in float64. On CPUs PyTorch sums the squares of an
            # array in plain float32, which leaves the norm of two million word-embedding gradients 2.5e-4 too small:
            # a factor on every gradient of the step, and by itself enough to take the losses 1e-2 apart.
            norm = torch.nn.utils.get_total_norm([p.grad.double() for p in model.parameters()])
            torch.nn.utils.clip_grads_with_norm_(model.parameters(), settings.clip_norm, norm.float())
        rate = done / phase.warmup_steps if done < phase.warmup_steps else 1.0 - done / phase.steps
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate * rate
        optimizer.step()
        losses.append([mlm.item(), nsp.item(), loss.item()])
    return np.array(losses)


def plot(ours: np.ndarray, theirs: np.ndarray, path: Path) -> None:
    """Both curves above, the size of their difference below; for a page with a white ground."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from PIL import Image  # matplotlib brings it

    steps = np.arange(1, len(ours) + 1)
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8, 5.5), sharex=True, height_ratios=(3, 2), layout="constrained"
    )
    above.plot(steps, ours[:, 2], color="#8ec1e8", linewidth=5, label="bertjax")
    above.plot(steps, theirs[:, 2], color="#1b2a41", linewidth=1.2, label="transformers under PyTorch")
    above.set_ylabel("loss, MLM + NSP (nats)")
    above.legend(frameon=False)
    difference = np.maximum(np.abs(ours - theirs), 1e-7)  # equal losses at the foot of the axis
    below.axhline(BAR, color="#c1121f", linewidth=1.2, linestyle="--", label="bar")
    below.plot(steps, difference[:, 0], color="#1b2a41", linewidth=1, label="MLM")
    below.plot(steps, difference[:, 1], color="#e08e0b", linewidth=1, label="NSP")
    below.set_yscale("log")
    below.set_ylabel("difference (nats)")
    below.set_xlabel("step (updates)")
    below.legend(frameon=False, ncols=3, loc="upper right")
    below.set_ylim(1e-7, 1e-2)
    for axes in (above, below):
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0, len(ours))
    figure.savefig(path, dpi=100, facecolor="white")
    plt.close(figure)
    with Image.open(path) as image:  # a third of the bytes with a palette
        small = image.convert("RGB").quantize(64)
    small.save(path, optimize=True)


def print_table(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Every tenth step and the last: both losses of both sides, and the difference of their sum."""
    print("          ---- bertjax ----   -- transformers --")
    print("  step      MLM       NSP       MLM       NSP   difference")
    for step in sorted({*range(0, len(ours), 10), len(ours) - 1}):
        (mlm, nsp, loss), (peer_mlm, peer_nsp, peer_loss) = ours[step], theirs[step]
        print(f"{step + 1:6d} {mlm:9.5f} {nsp:9.5f} {peer_mlm:9.5f} {peer_nsp:9.5f}   {abs(loss - peer_loss):.1e}")


def default_corpus() -> str:
    real = os.environ.get("BERTJAX_REAL_DATA")
    return str(Path(real) / REAL_TEXT) if real else "installed-docs"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=default_corpus(), help="what to train on, a SPEC (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=PHASE.steps, help="updates (default: %(default)s)")
    parser.add_argument("--clip_norm", type=float, default=0.0, help="clip gradients to this norm (default: off)")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the curves (needs matplotlib)")
    flags = parser.parse_args(argv)

    corpus = prepare(flags.corpus, vocab_size=MODEL.vocab_size)
    model = replace(MODEL, vocab_size=corpus.tokenizer.vocab_size)  # less where there is little text to learn it on
    run = run_of(model, replace(PHASE, steps=flags.steps), flags.clip_norm)
    batches = read_batches(corpus, run)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        ours = bertjax_losses(run, batches, corpus, Path(folder) / "initial")
        between = time.perf_counter()
        theirs = peer_losses(run, batches, Path(folder) / "initial")
    print_table(ours, theirs)
    worst = np.abs(ours - theirs).max(0)
    names = ", ".join(f"{name} {value:.1e}" for name, value in zip(LOSSES, worst, strict=True))
    print(f"largest difference in {len(batches)} steps: {names} (bar {BAR:g})")
    print(f"bertjax {between - began:.0f} s, compiling included; transformers {time.perf_counter() - between:.0f} s")
    if flags.plot:
        plot(ours, theirs, flags.plot)
    return int(worst.max() > BAR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
