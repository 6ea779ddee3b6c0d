"""A whole fine-tuning beside a plain transformers + PyTorch loop: every loss, from warm-up to the last step."""

import importlib
import sys
from argparse import Namespace
from pathlib import Path

import jax
import numpy as np
import pytest

from bertjax.finetune.batching import IGNORED
from bertjax.finetune.model_and_examples import open_start, read_examples
from bertjax.finetune.settings import resolve, trials
from bertjax.finetune.trial_job import make_job
from bertjax.finetune.trials import TASK_SETUPS, Labelled
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


def rows_of(batch, labels_of):
    """As the peer takes them: lists without padding."""
    rows = []
    for number in np.flatnonzero(batch["weights"]):
        there = batch["example_ids"][number].astype(bool)
        row = {name: batch[name][number][there].tolist() for name in ("input_ids", "token_type_ids")}
        rows.append(row | {"attention_mask": [1] * int(there.sum())} | labels_of(batch["labels"][number], there))
    return rows


def of_words(labels, there):
    return {"labels": [-100 if label == IGNORED else int(label) for label in labels[there]]}


def without_padding(model):
    """Padding is no answer: transformers' own loss has it in the softmax, so that it depends on the batch's padding."""
    inputs, forward = {}, model.qa_outputs.forward
    model.register_forward_pre_hook(lambda _, positional, named: inputs.update(named), with_kwargs=True)
    model.qa_outputs.forward = lambda x: forward(x) + (inputs["attention_mask"][:, :, None] - 1.0) * 1e9


# The peer's model; a row's labels in its words; a learning rate that learns the task in so few steps.
PEERS = {
    "classification": ("AutoModelForSequenceClassification", lambda label, _: {"labels": int(label)}, "5e-3"),
    "tagging": ("AutoModelForTokenClassification", of_words, "3e-3"),
    "answering": (
        "AutoModelForQuestionAnswering",
        lambda ends, _: {"start_positions": int(ends[0]), "end_positions": int(ends[1])},
        "3e-3",
    ),
}


@pytest.fixture
def data(moods, tagged, questions):
    """Examples by task."""
    return {"classification": moods[0], "tagging": tagged(150, 0), "answering": questions(150, 0)}


@pytest.mark.parametrize("task", PEERS)
def test_losses_of_a_whole_run_without_dropout(task, peer, small_config, model_folder, data, tmp_path):
    of_peer, labels_of, learning_rate = PEERS[task]
    config = small_config(task)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
        config.model[name] = 0.0
    if task == "answering":
        config.model.max_length, config.model.stride = 24, 6
    config.training.epochs = str(EPOCHS)
    config.training.learning_rate = learning_rate
    start = open_start(model_folder, resolve(config))
    examples = read_examples(data[task], resolve(config), held_out=False)
    setup = TASK_SETUPS[task](resolve(config), Labelled(examples, examples, start.tokenizer))
    steps = EPOCHS * -(-len(setup.train) // config.training.batch_size)
    config.training.warmup_fraction = int(0.1 * steps) / steps  # the peer rounds down
    run = resolve(config)
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    job = make_job(run, trials(run)[0], start, setup, mesh, {})
    assert job.steps == steps

    save_task_model(start.make(setup.task, job.trial.seed), tmp_path / "model", start.tokenizer)
    model = getattr(peer.transformers, of_peer).from_pretrained(tmp_path / "model")
    for module in model.modules():
        if isinstance(module, peer.torch.nn.Dropout):
            module.p = 0.0
    model.train()
    if task == "answering":
        without_padding(model)
    settings = Namespace(learning_rate=job.trial.learning_rate, precision="float32")
    update = peer.make_update(model, steps, settings)

    step, state, ours, theirs = job.train_step(), job.initial_state(), [], []
    for number in range(steps):
        rows, length = job.train_batches.training(job.trial.seed, number)
        batch = job.train_batches.make(rows, length)
        state, metrics = step(length, state, to_global(batch, mesh), *job.constants)
        ours.append(float(metrics["loss"]))
        theirs.append(update(rows_of(batch, labels_of)))
    assert np.mean(ours[-10:]) < 0.3 * ours[0]  # it has learned, so the rate mattered
    assert task != "classification" or ours[-1] < 0.1 * ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
