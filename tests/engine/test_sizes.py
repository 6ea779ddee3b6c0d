"""Sizes that no machine has, and numbers beyond float32: refused in one line, before anything is made."""

import dataclasses
from pathlib import Path

import jax
import pytest

from bertjax import create_model
from bertjax.config import ModelConfig, resolve
from bertjax.data.corpus.prepared import prepare
from bertjax.engine import training_memory
from bertjax.engine.activation_memory import Trained
from bertjax.engine.training_memory import check_batch, check_model
from bertjax.errors import ConfigError
from bertjax.finetune.settings import resolve as resolve_finetuning
from bertjax.objectives.losses import batch_loss
from bertjax.parallel.mesh import make_mesh
from bertjax.train.__main__ import main

TINY = f"--config={Path(__file__).parent.parent.parent / 'configs' / 'tiny.py'}"
ROW = (128, 20, 16)


def trained(model):
    return Trained(model, "bfloat16", batch_loss, optimizer_values=2.0)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"phases.phase1.steps={10**30}", ["phase1.steps", "2147483647"]),
        (f"phases.phase1.steps={2**31 - 1}", ["config.phases have", "steps", "2,147,483,647"]),  # and those of phase2
        (f"phases.phase1.batch_size={10**30}", ["phase1.batch_size", "2147483647"]),
        (f"phases.phase1.batch_size={10**9}", ["phase1.batch_size = 1,000,000,000", "GiB", "would"]),
        (f"phases.phase1.warmup_steps={10**30}", ["phase1.warmup_steps", "2147483647"]),
        (f"data.prefetch={2**31 - 1}", ["config.data.prefetch = 2147483647", "GiB", "would"]),
        (f"data.block_tokens={10**30}", ["config.data.block_tokens"]),
        (f"model.hidden_size={2**20}", ["parameters", "GiB", "--config.model.hidden_size=768"]),
        (f"model.vocab_size={2**31 - 1}", ["config.model.vocab_size", "1073741824"]),
        (f"model.vocab_size={2**30}", ["parameters", "GiB", "--config.model.vocab_size=30522"]),
        (f"model.intermediate_size={2**24}", ["GiB", "--config.model.intermediate_size=3072"]),
        (f"model.num_hidden_layers={2**16}", ["GiB", "--config.model.num_hidden_layers=12"]),
        (f"model.max_position_embeddings={2**24}", ["GiB", "--config.model.max_position_embeddings=512"]),
        ("phases.phase1.learning_rate=1e300", ["phase1.learning_rate = 1e+300", "3.40282e+38"]),
        ("phases.phase1.learning_rate=1e-300", ["phase1.learning_rate = 1e-300", "1.17549e-38"]),
        ("optimizer.weight_decay=1e39", ["config.optimizer.weight_decay", "3.40282e+38"]),
        ("optimizer.clip_norm=1e-50", ["config.optimizer.clip_norm", "1.17549e-38"]),
        ("model.layer_norm_eps=1e-50", ["config.model.layer_norm_eps", "1.17549e-38"]),
        ("model.initializer_range=1e200", ["config.model.initializer_range"]),
        ("guard.loss_rise=1e308", ["config.guard.loss_rise"]),
    ],
)
def test_refused_in_one_line_before_anything_is_made(override, words, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    code = main([TINY, f"--config.{override}", f"--workdir={tmp_path / 'run'}"])
    errors = [line for line in capsys.readouterr().err.split("\n") if line.startswith("error:")]
    assert code == 2 and len(errors) == 1
    for word in words:
        assert word in errors[0]
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": {"clip_norm": 0.0}},
        {"phases": {"one": {"learning_rate": 3e38, "warmup_steps": 0}}},
        {"phases": {"one": {"learning_rate": 1e-37, "warmup_steps": 2**31 - 1}}},
    ],
)
def test_what_float32_and_int32_hold_is_taken(values):
    resolve({"phases": {"one": {"learning_rate": 1e-3, "warmup_steps": 0}}} | values)


def test_what_is_named_fits(monkeypatch):
    """The limit is a machine's of 8 GiB; each way out, taken, is let through."""
    monkeypatch.setattr(training_memory, "memory_limit", lambda device: 8 * 2**30)
    mesh = make_mesh(4, 1, 1, devices=jax.devices()[:4])
    large = dataclasses.replace(ModelConfig(), hidden_size=2304, num_hidden_layers=12, intermediate_size=9216)
    check_model(trained(ModelConfig()), mesh, ROW)
    with pytest.raises(ConfigError, match=r"does not fit: \d.*of 8.0 GiB; ") as caught:
        check_model(trained(large), mesh, ROW)
    assert "--config.model.hidden_size=768" in str(caught.value)
    assert "--config.parallel.data=1 --config.parallel.fsdp=-1 would fit" in str(caught.value)
    check_model(trained(dataclasses.replace(large, hidden_size=768)), mesh, ROW)
    check_model(trained(large), make_mesh(1, 4, 1, devices=jax.devices()[:4]), ROW)


@pytest.mark.parametrize("heads", [7, 2**16])
def test_what_is_named_is_a_model(heads, monkeypatch):
    """Of BERT-base's sizes none is named with which the others make no model, or one too short for the row."""
    monkeypatch.setattr(training_memory, "memory_limit", lambda device: 8 * 2**30)
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    odd = dataclasses.replace(ModelConfig(), hidden_size=7 * 2**16, num_attention_heads=heads, num_hidden_layers=1)
    long = dataclasses.replace(ModelConfig(), max_position_embeddings=2**24)
    for model, row in ((odd, ROW), (long, (1024, 20, 16))):
        with pytest.raises(ConfigError, match=r"does not fit: .*; take a smaller config.model, or larger devices$"):
            check_model(trained(model), mesh, row)


def test_the_batch_that_is_named_fits(monkeypatch):
    monkeypatch.setattr(training_memory, "host_memory", lambda: 2**30)
    mesh = make_mesh(4, 1, 1, devices=jax.devices()[:4])
    check_batch("config.phases.one.batch_size", 4096, ROW, mesh, prefetch=4)
    with pytest.raises(ConfigError, match=r"one.batch_size = 1,000,000 rows .* would$") as caught:
        check_batch("config.phases.one.batch_size", 1_000_000, ROW, mesh, prefetch=4)
    most = int(str(caught.value).split()[-2].replace(",", ""))
    assert most > 4096 and most % 4 == 0
    check_batch("config.phases.one.batch_size", most, ROW, mesh, prefetch=4)
    with pytest.raises(ConfigError, match=r"config.data.prefetch = 100000 .* would$") as caught:
        check_batch("config.phases.one.batch_size", 4096, ROW, mesh, prefetch=100_000)
    check_batch("config.phases.one.batch_size", 4096, ROW, mesh, prefetch=int(str(caught.value).split()[-2]))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "epochs", 10**30),
        ("training", "epochs", 10**9),
        ("training", "batch_size", 10**30),
        ("training", "learning_rate", 1e300),
        ("training", "temperature", 1e300),
        ("model", "max_length", 10**30),
        ("model", "stride", 10**30),
        ("optimizer", "weight_decay", 1e300),
    ],
)
def test_keys_of_fine_tuning(section, key, value):
    with pytest.raises(ConfigError, match=rf"config.{section}.{key} = .* is too large; the most is"):
        resolve_finetuning({section: {key: value}})


def test_from_python(tmp_path):
    with pytest.raises(ConfigError, match=r"parameters takes .* GiB, more than the .* of this machine"):
        create_model("bert-base", hidden_size=2**20)
    (tmp_path / "a.txt").write_text("A sentence. Another one.\n\nA document.\n")
    with pytest.raises(ConfigError, match=r"vocab_size = 2147483647 is too large to be learned on this machine"):
        prepare([tmp_path / "a.txt"], tmp_path / "c", vocab_size=2**31 - 1)
