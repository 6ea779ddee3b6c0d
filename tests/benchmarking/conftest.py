"""Benchmarks of a run of two phases on two devices."""

import json

import jax
import pytest

from bertjax import benchmark
from bertjax.benchmarking import attention_speed, train_step
from bertjax.parallel.mesh import make_mesh


@pytest.fixture
def config_file(corpus_file, tmp_path):
    path = tmp_path / "mini.py"
    path.write_text(
        "from bertjax.config import default_config, phase\n"
        "def get_config():\n"
        "    config = default_config()\n"
        "    config.name, config.precision = 'mini', 'float32'\n"
        "    config.model.update(vocab_size=500, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,\n"
        "                        intermediate_size=64, max_position_embeddings=64)\n"
        f"    config.data.corpus = {str(corpus_file)!r}\n"
        "    config.phases.phase1 = phase(sequence_length=32, batch_size=8, steps=3, warmup_steps=1)\n"
        "    config.phases.phase1.learning_rate = 1e-3\n"
        "    config.phases.phase2 = phase(sequence_length=64, batch_size=4, steps=3)\n"
        "    return config\n"
    )
    return path


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def measured(config_file, cache, monkeypatch, capsys):
    """``(argument, ...) -> (exit code, standard output, standard error)``; with one cache for all tests."""
    monkeypatch.setenv("BERTJAX_CACHE", str(cache))
    for module in (train_step, attention_speed):
        monkeypatch.setattr(module, "make_mesh", lambda *sizes: make_mesh(*sizes, jax.devices()[:2]))

    def run(name, *arguments):
        code = benchmark.main([name, f"--config={config_file}", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def figures(measured):
    """``(argument, ...) -> what --json prints``, which is all that standard output holds."""

    def run(*arguments):
        code, out, err = measured(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return run
