"""precision = "auto" takes the faster one, and a CPU on which bfloat16 is slower says so."""

import dataclasses

import pytest

from bertjax.config import ModelConfig
from bertjax.engine import precision_choice
from bertjax.engine.precision_choice import CHOICES, faster_precision, mlp_seconds, slow_precision

MODEL = ModelConfig(hidden_size=256, num_attention_heads=4, intermediate_size=1024)
TIMES = {"float32": 0.010, "bfloat16": 0.006, "float16": 0.030}


@pytest.fixture
def timed(monkeypatch):
    """Sets what an MLP takes in each precision."""

    def set_times(**times):
        measured = lambda model, tokens, names=CHOICES: {name: (TIMES | times)[name] for name in names}
        monkeypatch.setattr(precision_choice, "mlp_seconds", measured)

    return set_times


def test_an_mlp_is_timed_in_both():
    model = dataclasses.replace(MODEL, hidden_size=32, intermediate_size=64)
    seconds = mlp_seconds(model, 64)
    assert tuple(seconds) == CHOICES
    assert all(0 < value < 10 for value in seconds.values())


@pytest.mark.parametrize(("bfloat16", "best"), [(0.006, "bfloat16"), (0.012, "float32")])
def test_auto_is_the_faster_one_on_cpus(timed, bfloat16, best):
    timed(bfloat16=bfloat16)
    found, why = faster_precision(MODEL, 1024, "cpu")
    assert found == best
    assert f"10.0 ms in float32, {1e3 * bfloat16:.1f} ms in bfloat16" in why


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_auto_is_bfloat16_on_accelerators(timed, platform):
    timed(bfloat16=1.0)
    assert faster_precision(MODEL, 1024, platform)[0] == "bfloat16"


@pytest.mark.parametrize(
    ("precision", "bfloat16", "platform", "warned"),
    [
        ("bfloat16", 0.006, "cpu", False),
        ("bfloat16", 0.0105, "cpu", False),  # within noise
        ("bfloat16", 0.015, "cpu", True),
        ("bfloat16", 0.015, "tpu", False),
        ("float16", 0.006, "cpu", True),
        ("float32", 0.006, "cpu", False),
    ],
)
def test_a_slow_precision_is_warned_of_with_a_way_out(timed, precision, bfloat16, platform, warned):
    timed(bfloat16=bfloat16)
    lines = slow_precision(MODEL, precision, 1024, platform)
    assert len(lines) == warned
    if warned:
        assert f"config.precision = '{precision}'" in lines[0]
        assert "--config.precision=float32" in lines[0]


def test_nobody_is_warned_about_small_matrices(timed):
    timed(bfloat16=1.0)
    assert slow_precision(dataclasses.replace(MODEL, intermediate_size=128), "bfloat16", 1024, "cpu") == []
