import itertools
import math
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from bertjax.benchmarking import program_work, train_step
from bertjax.benchmarking.layer_products import product_rate, products_of_layer
from bertjax.benchmarking.step_times import ROUNDS, fed_and_repeated, take_steps
from bertjax.config import ModelConfig
from bertjax.engine.position import RunPosition
from bertjax.model.flops import train_flops_per_row
from bertjax.model.precision import FLOAT32
from bertjax.parallel.devices import CHIPS


def test_its_figures(figures):
    answer = figures("train", "--seconds=0.1")
    assert (answer["benchmark"], answer["config"], answer["devices"]) == ("train", "mini", 2)
    assert [phase["phase"] for phase in answer["phases"]] == ["phase1", "phase2"]
    for phase, places in zip(answer["phases"], (8 * 32, 4 * 64), strict=True):
        tokens = phase["tokens_per_second"] * phase["step_seconds"]
        assert math.isclose(tokens, places * (1 - phase["padding_fraction"]))
        assert phase["mfu"] is None and phase["roofline_seconds"] is None  # of a CPU no rates are known
        assert phase["compile_seconds"] > 0 and phase["trace_seconds"] > 0 and phase["step_seconds"] > 0
        assert 0.9 < phase["flops"] / phase["flops_formula"] < 1.3
        assert phase["bytes_per_token"] * places == pytest.approx(phase["bytes_accessed"])
        assert phase["products_share"] == pytest.approx(
            phase["flops_formula"] / phase["step_seconds"] / phase["products_flops"]
        )
        assert phase["feed_overhead"] == pytest.approx(phase["step_seconds"] / phase["repeated_batch_step_seconds"] - 1)
        assert phase["temporaries_bytes"] > 0 and phase["state_and_batch_bytes"] > 12 * 30_000
        assert 0 < phase["loss"] < 2 * math.log(500) and phase["trace"] is None


def test_its_lines_and_a_trace(measured, tmp_path):
    code, out, _ = measured("train", "--seconds=0.1", f"--profile={tmp_path / 'traces'}")
    assert code == 0
    assert "\nphase1: 8 rows of 32 tokens, float32, on 2 x cpu\n" in out and "real tokens a second" in out
    assert "the device's peak is not on record: no MFU" in out
    traces = [Path(line.split("open ")[1].split(" at https")[0]) for line in out.splitlines() if "perfetto" in line]
    assert [trace.is_file() for trace in traces] == [True, True]
    assert f"tensorboard --logdir={tmp_path / 'traces' / 'phase1'}" in out


def test_a_trace_needs_a_folder(measured, tmp_path):
    (tmp_path / "file").touch()
    code, out, err = measured("train", f"--profile={tmp_path / 'file'}")
    assert (code, out) == (2, "") and err == f"error: --profile = {tmp_path / 'file'}: File exists\n"


def test_on_a_device_with_known_rates_it_says_mfu_and_roofline(measured, monkeypatch):
    chip = next(chip for chip in CHIPS if chip.name == "v5e")
    monkeypatch.setattr(program_work, "chip_of", lambda device: chip)
    monkeypatch.setattr(train_step, "peak_flops", lambda mesh: chip.flops * mesh.size)
    code, out, _ = measured("train", "--seconds=0.1")
    assert code == 0 and "of 394 TFLOP/s, counting real tokens alone" in out
    assert "s a step if every operation ran at data-sheet rates, " in out and "% of it bound by memory; this" in out


def steps(seconds):
    """(position, step): a step that takes so long on a batch, and counts how often each came."""
    taken = []

    def step(state, batch):
        time.sleep(seconds[batch])
        taken.append(batch)
        return state, {"real_tokens": 1.0}

    here = RunPosition(SimpleNamespace(step=0), SimpleNamespace())
    return here, step, taken


def test_a_slow_feed_shows_as_overhead():
    """Pauses far longer than what a busy machine adds to them."""
    here, step, taken = steps({"new": 0.01, "same": 0.01})

    def slow():
        while True:
            time.sleep(0.05)
            yield "new", here.data

    fed, repeated = fed_and_repeated(here, step, slow(), "same", 1.2)
    assert fed.median / repeated.median > 2 and repeated.spread >= 0
    order = [name for name, _ in itertools.groupby(taken)]
    assert order == ["new", *["same", "new"] * ROUNDS]  # two of the same turns in a row


def test_at_least_one_step_is_taken():
    here, step, taken = steps({"slow": 0.01})
    assert len(take_steps(here, step, itertools.repeat(("slow", here.data)), 1e-9).seconds) == len(taken) == 1


def test_the_products_of_a_layer_are_those_of_the_formula():
    model = ModelConfig(hidden_size=64, num_attention_heads=4, intermediate_size=256, num_hidden_layers=1)
    rows, length = 3, 32
    found = sum(product.flops * product.count for product in products_of_layer(model, rows, length))
    assert found == rows * train_flops_per_row(model, length, 0)


def test_the_rate_of_products():
    """Below what any machine reaches, above nothing: 2 x 10^6 to 10^15."""
    model = ModelConfig(hidden_size=64, num_attention_heads=4, intermediate_size=256, num_hidden_layers=1)
    assert 2e6 < product_rate(model, FLOAT32, 2, 16)(0.01) < 1e15
    assert jax.default_backend() == "cpu"


def test_auto_is_measured_as_what_it_is_here(figures):
    assert figures("train", "--seconds=0.01", "--config.precision=auto")["precision"] in ("float32", "bfloat16")
