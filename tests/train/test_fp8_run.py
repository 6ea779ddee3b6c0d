"""A whole run in 8 bits, emulated: trained, stopped, resumed, exported; and where it is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import bertjax.train
from bertjax.config import ModelConfig
from bertjax.engine import precision_check
from bertjax.engine.precision_check import EMULATE_FP8, check_precision
from bertjax.errors import ConfigError, Stopped
from bertjax.parallel.mesh import make_mesh


@pytest.fixture
def emulated(monkeypatch, config):
    monkeypatch.setenv(EMULATE_FP8, "1")
    config.precision = "fp8"
    return config


def rows(workdir, kind="train"):
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in found if row["kind"] == kind}


def test_a_run_is_stopped_and_goes_on_as_if_it_had_not_been(emulated, tmp_path):
    emulated.logging.every_steps = 1
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    quiet = lambda line: None
    bertjax.train.run(emulated, whole, say=quiet)
    with pytest.raises(Stopped):
        bertjax.train.run(emulated, parted, say=quiet, should_stop=lambda step: step == 4)
    bertjax.train.run(emulated, parted, say=quiet)
    assert rows(parted) == rows(whole)
    assert rows(parted, "eval") == rows(whole, "eval")
    model = "model/model.safetensors"
    assert (whole / model).read_bytes() == (parted / model).read_bytes()
    assert bertjax.load_model(whole / "model", for_pretraining=True).config.hidden_size == emulated.model.hidden_size


def test_losses_are_near_those_of_bfloat16_and_not_the_same(emulated, tmp_path):
    emulated.logging.every_steps = 1
    losses = {}
    for precision in ("fp8", "bfloat16"):
        emulated.precision = precision
        bertjax.train.run(emulated, tmp_path / precision, say=lambda line: None)
        losses[precision] = np.array(list(rows(tmp_path / precision).values()))
    assert (losses["fp8"] != losses["bfloat16"]).any()
    np.testing.assert_allclose(losses["fp8"], losses["bfloat16"], rtol=5e-3)


class Device:
    def __init__(self, platform, kind, capability=None):
        self.platform, self.device_kind = platform, kind
        if capability is not None:
            self.compute_capability = capability


def refusal(monkeypatch, precision, device, hidden=1024):
    monkeypatch.setattr(precision_check, "_device", lambda mesh: device)
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    try:
        check_precision(precision, mesh, dataclasses.replace(ModelConfig(), hidden_size=hidden))
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("precision", "device", "hidden", "words"),
    [
        ("fp8", Device("gpu", "NVIDIA H200", "9.0"), 1024, None),
        ("fp8", Device("gpu", "NVIDIA H200", "9.0"), 768, "hidden_size of 1024 or more, not 768"),
        ("fp8", Device("gpu", "NVIDIA A100", "8.0"), 1024, "Hopper generation or later, not NVIDIA A100"),
        ("fp8", Device("tpu", "TPU v5e"), 1024, "Hopper generation or later, not TPU v5e"),
        ("fp8", Device("cpu", "cpu"), 1024, "Hopper generation or later, not cpu"),
        ("tf32", Device("gpu", "Tesla T4", "7.5"), 768, "Ampere generation or later, not Tesla T4"),
        ("tf32", Device("gpu", "NVIDIA A100", "8.0"), 768, None),
        ("tf32", Device("cpu", "cpu"), 768, None),
        ("bfloat16", Device("gpu", "Tesla T4", "7.5"), 768, None),
    ],
)
def test_what_the_devices_or_the_model_are_not_made_for_is_refused(precision, device, hidden, words, monkeypatch):
    monkeypatch.delenv(EMULATE_FP8, raising=False)
    found = refusal(monkeypatch, precision, device, hidden)
    assert found is None if words is None else words in found
