"""tests/benchmarks/accelerator.sh in small on this CPU, and parts that fail, hang or lack memory."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def accelerator(monkeypatch):
    """The script's driver, as a module."""
    spec = importlib.util.spec_from_file_location("accelerator", HERE / "accelerator.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "accelerator", module)
    spec.loader.exec_module(module)
    return module


STEP = {"rows", "step_seconds", "rows_per_second", "tokens_per_second", "peak_memory_bytes", "precision"}
OURS = STEP | {"mfu", "flops", "flops_formula", "bytes_accessed", "bytes_per_token", "roofline_seconds", "attention"}
OURS |= {"compile_seconds", "temporaries_bytes", "device", "jax", "loss"}
RESULTS = {
    "kernels": {"right", "kernels", "wrong", "left_out", "checks", "device", "jax"},
    "tiny": OURS,
    "torch-tiny": STEP,
    "attention": {"benchmark", "config", "precision", "phases", "device_kind"},
    "feed": {"benchmark", "config", "precision", "phases", "device_kind", "peak_flops"},
}


def test_in_small_it_says_all_that_it_says_of_a_card(corpus_file, tmp_path):
    environment = os.environ | {"PYTHON": sys.executable, "OUT": str(tmp_path / "out"), "JAX_PLATFORMS": "cpu"}
    environment["BERTJAX_CACHE"] = str(tmp_path / "cache")
    environment["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    command = [HERE / "accelerator.sh", "--small", f"--corpus={corpus_file}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    log = (tmp_path / "out" / "accelerator.log").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    answer = json.loads((tmp_path / "out" / "accelerator.json").read_text())
    assert answer["small"] and answer["device"]["platform"] == "cpu" and answer["seconds"] > 0
    assert set(answer["parts"]) == set(RESULTS)
    has_torch = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
    for name, fields in RESULTS.items():
        part = answer["parts"][name]
        if name == "torch-tiny" and not has_torch:
            assert part == {"status": "skipped", "reason": part["reason"]} and "is not installed" in part["reason"]
            continue
        assert part["status"] == "ok" and fields <= set(part["result"]), (name, part)
    kernels = answer["parts"]["kernels"]["result"]
    assert kernels["right"] and "fused" in kernels["kernels"] and len(kernels["checks"]) >= 1
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("kernels: right in ")]
    assert [line for line in lines if line.startswith("tiny: ") and "rows a second, 4 a step, float32" in line]
    if has_torch:
        assert [line for line in answer["summary"] if line.startswith("tiny: ") and "x torch-tiny" in line]


def test_a_part_that_fails_is_recorded(accelerator, tmp_path):
    with (tmp_path / "log").open("w") as log:
        run = lambda code, limit=60.0: accelerator.run(accelerator.Part("one", ["-c", code], limit), 60.0, log)
        assert run("print('so'); print('{\"a\": 1}')") | {"seconds": 0} == {
            "status": "ok",
            "result": {"a": 1},
            "seconds": 0,
            "command": "-c print('so'); print('{\"a\": 1}')",
        }
        failed = run("raise ValueError('no such instruction')")
        assert failed["status"] == "failed" and failed["reason"] == "exit code 1; ValueError: no such instruction"
        assert run("print('nothing')")["reason"] == "it printed no JSON; nothing"
        late = run("import time; time.sleep(60)", 1.0)
        assert late["status"] == "timed out" and late["seconds"] < 30
        skipped = accelerator.Part("one", [], 1.0, lambda: "no card")
        assert accelerator.run(skipped, 60.0, log) == {"status": "skipped", "reason": "no card"}


def test_the_peer_gets_half_the_rows_where_memory_runs_out(accelerator, tmp_path):
    code = "import sys; rows = int(sys.argv[1][7:]); assert rows <= 16, 'torch.OutOfMemoryError'; "
    code += "print('{\"rows\": %d}' % rows)"
    with (tmp_path / "log").open("w") as log:
        part = accelerator.Part("one", ["-c", code, "--rows=64"], 60.0)
        assert accelerator.run(part, 60.0, log)["result"] == {"rows": 16}
    assert accelerator.with_half_the_rows(["a", "--rows=8"]) is None
    assert accelerator.with_half_the_rows(["a"]) is None


def test_the_summary_names_the_best_peer_and_what_did_not_run(accelerator):
    step = {"rows": 256, "precision": "bfloat16", "mfu": None, "peak_memory_bytes": 2**34}
    ok = lambda speed: {"status": "ok", "result": step | {"rows_per_second": speed}}
    records = {"base128": ok(300.0), "torch-base128": ok(100.0), "torch-base128-compile": ok(150.0)}
    records |= {"large512": ok(9.0), "feed": {"status": "not run", "reason": "no time was left"}}
    lines = accelerator.summary(records)
    assert "feed: not run: no time was left" in lines
    assert "base128: 2.00 x torch-base128-compile, the best of 2 on PyTorch" in lines
    assert "base128: 300 rows a second, 256 a step, bfloat16, 16.0 GiB used at most" in lines
    assert not [line for line in lines if line.startswith("large512") and "PyTorch" in line]
