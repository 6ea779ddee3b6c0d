"""``benchmark compiled`` for the devices of this machine, for one TPU chip, and its regression gate."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from bertjax.benchmarking import compiled_programs
from bertjax.benchmarking.compiled_step import largest, square_arrays
from bertjax.errors import ConfigError, Regression
from bertjax.planning.hlo import read_program
from bertjax.planning.work import Operation


@pytest.fixture
def small(config_file):
    """One phase, divisible by the eight devices of the tests."""
    text = config_file.read_text()
    config_file.write_text(text.replace("batch_size=8", "batch_size=16").replace("batch_size=4", "batch_size=8"))
    return config_file


def test_its_figures_hold_against_themselves_and_not_against_better_ones(small, figures, measured, tmp_path):
    answer = figures("compiled", "--topology=local")
    assert (answer["benchmark"], answer["topology"], answer["devices"]) == ("compiled", "local", 8)
    for phase, places in zip(answer["phases"], (16 * 32, 8 * 64), strict=True):
        assert 0.9 < phase["flops"] / phase["flops_formula"] < 1.3
        assert phase["bytes_per_token"] == pytest.approx(phase["bytes_accessed"] / places)
        assert phase["square_arrays"] > 0 and phase["temporaries_bytes"] > 0  # explicit attention
        assert phase["bytes_reduced"] >= phase["gradient_bytes"]
        assert sum(row["bytes"] for row in phase["largest"]) * 8 <= phase["bytes_accessed"] * 1.001
    stored = tmp_path / "stored.json"
    stored.write_text(json.dumps(answer))
    code, out, err = measured("compiled", "--topology=local", f"--check={stored}")
    assert code == 0 and f"within the figures of {stored}" in out, err
    assert "phase1: 16 rows of 32 tokens, 2 a device, float32, for local" in out
    answer["phases"][1]["bytes_per_token"] *= 0.9
    stored.write_text(json.dumps(answer))
    code, out, err = measured("compiled", "--topology=local", f"--check={stored}")
    assert code == 4 and err.startswith("error: the compiled program is worse: phase2: bytes_per_token "), err


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler")
def test_a_tpu_that_is_not_here_in_a_process_of_its_own(small, tmp_path):
    """Its settings must stand before jax starts."""
    small.write_text("".join(line for line in small.open() if "phase2" not in line))
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"BERTJAX_CACHE": str(tmp_path)}
    command = [sys.executable, "-m", "bertjax.benchmark", "compiled", f"--config={small}", "--topology=v5e:1x1"]
    command += [
        "--config.model.attention=auto",
        "--config.precision=bfloat16",
        "--config.model.hidden_size=128",
        "--config.model.intermediate_size=256",
    ]
    # Whole tiles of the fused kernel: shorter rows are padded to 128 positions, which counts as work.
    command += ["--config.phases.phase1.sequence_length=128", "--config.model.max_position_embeddings=128"]
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for phase in json.loads(done.stdout)["phases"]:
        assert phase["roofline_seconds"] >= phase["arithmetic_seconds"] > 0
        assert phase["square_arrays"] == 0  # fused attention
        assert 0.9 < phase["flops"] / phase["flops_formula"] < 1.3


PHASE = {"phase": "one", "sequence_length": 128, "rows_per_device": 4, "temporaries_bytes": 1000, "flops": 1e9}
PHASE |= {"bytes_per_token": 1e6, "bytes_reduced": 0.0, "square_arrays": 0}
FIGURES = {"topology": "v5e:1x1", "versions": {"jax": "1"}, "phases": [PHASE]}


def test_what_the_gate_lets_through():
    of = lambda **changes: FIGURES | {"phases": [PHASE | changes]}
    compiled_programs.check(of(bytes_per_token=1.01e6, temporaries_bytes=900), FIGURES)
    with pytest.raises(Regression, match=r"one: square_arrays 1, stored 0$"):
        compiled_programs.check(of(square_arrays=1), FIGURES)
    with pytest.raises(Regression, match=r"bytes_per_token 1\.03e\+06, stored 1e\+06; stored with {'jax': '1'}"):
        compiled_programs.check(of(bytes_per_token=1.03e6) | {"versions": {"jax": "2"}}, FIGURES)
    with pytest.raises(ConfigError, match="--check holds figures of"):
        compiled_programs.check(of(rows_per_device=8), FIGURES)


@pytest.mark.parametrize("content", [None, "", "[]", '{"topology": 1}'])
def test_a_file_that_holds_no_figures(content, tmp_path):
    path = tmp_path / "figures.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"^--check = .*figures\.json"):
        compiled_programs.read_figures(path)


def test_arrays_of_rows_heads_and_two_lengths_are_counted():
    text = """HloModule m

ENTRY %main (a: f32[4,2,8,8]) -> f32[4,2,8,8] {
  %a = f32[4,2,8,8]{3,2,1,0} parameter(0)
  %scores = f32[8,8,8]{2,1,0} copy(%a)
  %inside = f32[8,8,8]{2,1,0:S(1)} copy(%a)
  %fewer = f32[4,8,8]{2,1,0} copy(%a)
  ROOT %out = f32[4,2,8,8]{3,2,1,0} negate(%scores)
}
"""
    assert square_arrays(read_program(text), rows=4, heads=2, length=8) == 2


def test_operations_of_one_source_are_summed():
    one = lambda source, moved: Operation("x", "fusion", (), "main", source, 2.0, 0.0, moved, 0.0)
    done = [one("jit(train_step)/jvp()/while/body/layers.1/mul", 3.0), one("jit(train_step)/jvp()/layers.2/mul", 4.0)]
    found = largest([*done, one("", 6.0)], tokens=2.0)
    assert [(row["source"], row["times"], row["bytes"], row["bytes_per_token"]) for row in found] == [
        ("forward/layers/mul", 4, 7.0, 3.5),
        ("fusion", 2, 6.0, 3.0),
    ]
