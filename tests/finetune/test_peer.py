"""A whole fine-tuning beside a plain transformers + PyTorch loop: every loss, from warm-up to the last step."""

import importlib
import sys
from argparse import Namespace
from pathlib import Path

import jax
import numpy as np
import pytest

from bertjax.finetune.inputs import open_start, read_examples
from bertjax.finetune.job import make_job
from bertjax.finetune.settings import resolve, trials
from bertjax.finetune.trials import FAMILIES, Labelled
from bertjax.interop.task_models import save_task_model
from bertjax.parallel.mesh import make_mesh
from bertjax.parallel.sharding import to_global

EPOCHS = 6


@pytest.fixture
def peer(monkeypatch):
    """The loop of tests/benchmarks, for single updates."""
    for name in ("torch", "transformers"):
        pytest.importorskip(name)
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parent.parent / "benchmarks")])
    return importlib.import_module("torch_finetune")


def rows_of(batch):
    """As the peer takes them: lists without padding."""
    rows = []
    for number in np.flatnonzero(batch["weights"]):
        there = batch["example_ids"][number].astype(bool)
        row = {name: batch[name][number][there].tolist() for name in ("input_ids", "token_type_ids")}
        rows.append(row | {"attention_mask": [1] * int(there.sum()), "labels": int(batch["labels"][number])})
    return rows


def test_losses_of_a_whole_run_without_dropout(peer, config, model_folder, moods, tmp_path):
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
        config.model[name] = 0.0
    steps = EPOCHS * -(-len(moods[0][0]) // config.training.batch_size)
    config.training.epochs = str(EPOCHS)
    config.training.warmup_fraction = int(0.1 * steps) / steps  # the peer rounds down
    config.training.learning_rate = "5e-3"
    run = resolve(config)
    start = open_start(model_folder, run)
    examples = read_examples(moods[0], run, held_out=False)
    family = FAMILIES[run.task](run, Labelled(examples, examples, start.tokenizer))
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    job = make_job(run, trials(run)[0], start, family, mesh, {})

    save_task_model(start.make(family.task, job.trial.seed), tmp_path / "model", start.tokenizer)
    model = peer.transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    for module in model.modules():
        if isinstance(module, peer.torch.nn.Dropout):
            module.p = 0.0
    model.train()
    settings = Namespace(learning_rate=job.trial.learning_rate, precision="float32")
    update = peer.make_update(model, steps, settings)

    step, state, ours, theirs = job.train_step(), job.initial_state(), [], []
    for number in range(steps):
        rows, length = job.train_batches.training(job.trial.seed, number)
        batch = job.train_batches.make(rows, length)
        state, metrics = step(length, state, to_global(batch, mesh), *job.constants)
        ours.append(float(metrics["loss"]))
        theirs.append(update(rows_of(batch)))
    assert ours[-1] < 0.1 * ours[0]  # it has learned, so the rate mattered
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
