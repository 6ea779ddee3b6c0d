"""How a trial is laid out before it runs."""

import jax
import numpy as np
import pytest

from bertjax import attention_kernels
from bertjax.finetune.model_and_examples import open_start, read_examples
from bertjax.finetune.settings import resolve, trials
from bertjax.finetune.trial_job import UNROLLED_FROM, describe_job, make_job
from bertjax.finetune.trials import TASK_SETUPS, Labelled
from bertjax.parallel.mesh import make_mesh


def laid_out(config, model_folder, path):
    run = resolve(config)
    start = open_start(model_folder, run)
    examples = read_examples(path, run, held_out=False)
    setup = TASK_SETUPS[run.task](run, Labelled(examples, examples, start.tokenizer))
    return make_job(run, trials(run)[0], start, setup, make_mesh(1, 1, 1, devices=jax.devices()[:1]), {})


@pytest.mark.parametrize(
    ("asked", "is_long", "scanned"),
    [(None, False, True), (None, True, False), (True, True, True), (False, False, False)],
)
def test_layers_are_unrolled_in_long_runs_on_cpus(asked, is_long, scanned, config, model_folder, moods):
    steps_of_an_epoch = -(-len(moods[0][0]) // config.training.batch_size)
    config.training.epochs = str(-(-UNROLLED_FROM["cpu"] // steps_of_an_epoch) - (not is_long))
    config.model.scan_layers = asked
    assert laid_out(config, model_folder, moods[0]).model_config.scan_layers is scanned


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 1.0])
def test_the_rate_rises_to_its_peak_and_falls_from_there_to_0(fraction, config, model_folder, moods):
    """As in transformers' get_linear_schedule_with_warmup; in 2018 the fall was measured from the first step."""
    config.training.epochs = "7"
    config.training.warmup_fraction = fraction
    job = laid_out(config, model_folder, moods[0])
    steps, warmup = job.steps, round(fraction * job.steps)
    expected = [
        5e-4 * (step / warmup if step < warmup else (steps - step) / max(steps - warmup, 1)) for step in range(steps)
    ]
    schedule = job.schedule(5e-4)
    np.testing.assert_allclose([float(schedule(step)) for step in range(steps)], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("training.warmup_fraction", 1.0, ["warmup_fraction = 1", "only rises", "warmup_fraction=0.1"]),
        ("training.batch_size", 11, ["batch_size = 11", "11 parts of 1 row a device", "10 or 12"]),
        ("training.warmup_fraction", 0.5, []),
        ("training.batch_size", 8, []),
    ],
)
def test_what_is_hardly_meant_is_said(key, value, words, config, model_folder, moods):
    config.parallel.rows_per_device = 4
    config.training.batch_size = 8
    section, name = key.split(".")
    config[section][name] = value
    lines = laid_out(config, model_folder, moods[0]).cautions
    assert len(lines) == bool(words)
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(("rate", "kernel"), [(0.1, "explicit"), (0.0, "dot_product")])
def test_the_attention_kernel_is_said_if_it_was_left_open(rate, kernel, config, model_folder, moods, monkeypatch):
    reverse = dict(reversed(attention_kernels.KERNELS.items()))
    monkeypatch.setattr(attention_kernels, "KERNELS", reverse)
    config.model.update(attention_probs_dropout_prob=rate, attention="explicit")
    assert not any("attention" in line for line in describe_job(laid_out(config, model_folder, moods[0])))
    config.model.attention = "auto"
    assert f"attention: {kernel}" in describe_job(laid_out(config, model_folder, moods[0]))
