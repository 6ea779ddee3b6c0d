"""The command bertjax.plan: its answer for the devices of this machine, its cache, and its one-line errors."""

import json

import pytest

from bertjax import plan

pytestmark = pytest.mark.smoke

# The keys of ``plan --json``.
KEYS = {"topology", "devices", "fits", "phases", "days", "chip_hours", "cost"}
PHASE_KEYS = {"phase", "rows_per_device", "accumulation", "memory", "flops", "flops_formula", "bytes_accessed"}
PHASE_KEYS |= {"collectives", "step_seconds"}


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "mini.py"
    path.write_text(
        "from bertjax.config import default_config, phase\n"
        "def get_config():\n"
        "    config = default_config()\n"
        "    config.model.vocab_size = 500\n"
        "    config.model.hidden_size, config.model.num_hidden_layers = 32, 2\n"
        "    config.model.num_attention_heads, config.model.intermediate_size = 2, 64\n"
        "    config.model.max_position_embeddings = 64\n"
        "    same = dict(batch_size=16, steps=3, max_predictions=5)\n"
        "    config.phases.phase1 = phase(sequence_length=32, learning_rate=1e-3, warmup_steps=1, **same)\n"
        "    config.phases.phase2 = phase(sequence_length=64, **same)\n"
        "    return config\n"
    )
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def planned(config_file, cache, monkeypatch, capsys):
    """``(argument, ...) -> (exit code, standard output, standard error)``; with one cache for all tests."""
    monkeypatch.setenv("BERTJAX_CACHE", str(cache))

    def run(*arguments):
        code = plan.main([f"--config={config_file}", *arguments])
        return code, *capsys.readouterr()

    return run


def test_json_of_this_machines_devices_and_the_cache(planned):
    code, out, err = planned("--topology=local", "--json", "--config.parallel.tensor=2")
    answer = json.loads(out)
    assert code == 0 and set(answer) >= KEYS
    assert answer["topology"] == "local" and answer["devices"] == 8 and answer["fits"] is True
    assert answer["mesh"] == {"data": 4, "fsdp": 1, "tensor": 2}
    assert [p["phase"] for p in answer["phases"]] == ["phase1", "phase2"]
    for phase in answer["phases"]:
        assert set(phase) >= PHASE_KEYS
        assert phase["rows_per_device"] * phase["accumulation"] * 4 == 16
        memory = phase["memory"]
        assert memory["total"] == memory["parameters"] + memory["optimizer"] + memory["temporaries"] <= memory["limit"]
        assert 1.9 < memory["optimizer"] / memory["parameters"] < 2.1
        assert phase["flops"] == pytest.approx(phase["flops_formula"], rel=0.2)  # a tenth is the padded vocabulary's
        assert {"all-reduce"} <= {c["kind"] for c in phase["collectives"]}
        assert phase["step_seconds"] is None  # no rates of a CPU are known
    assert answer["days"] is None and answer["cost"] is None
    assert "compiling phase1" in err

    code, again, err = planned("--topology=local", "--json", "--config.parallel.tensor=2")
    assert code == 0 and again == out and err == ""  # nothing was compiled


def test_tables_for_a_person(planned):
    code, out, _ = planned("--topology=local", "--config.parallel.tensor=2")
    assert code == 0
    for words in (
        "on local: 8 x cpu, data 4 x fsdp 1 x tensor 2",
        "optimizer state",
        "rows that would fit",
        "all-reduce",
        "no rates",
    ):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give one with --topology=NAME"),
        (["--topology=v5e:3x3"], "the nearest slices are v5e:2x4 and v5e:4x4"),
        (["--topology=h200:3"], "h200 comes as h200:1, h200:2, h200:4, h200:8"),
        (["--topology=v5r:4x4"], "did you mean 'v5"),
        (["--topology=local", "--price=-1"], "must be 0 or more"),
        (["--topology=local", "--price=much"], "--price=much"),
        (["--topology=local", "--config.parallel.fsdp=3"], "one of 1, 2, 4, 8 would"),
        (["--topology=local", "--config.parallel.tensor=4"], "on 8 devices 1 or 2 would"),
        (["--topology=local", "--config.phases.phase2.batch_size=12"], "8 or 16 would"),
        (["--topology=local", "--configs.seed=1"], "--config"),
    ],
)
def test_a_mistake_is_one_line_before_any_compile(planned, arguments, says):
    code, out, err = planned(*arguments)
    assert code == 2 and out == ""
    assert err.count("\n") == 1 and err.startswith("error: ") and says in err
    assert "compiling" not in err


def test_help(capsys):
    assert plan.main(["--help"]) == 0
    assert "--topology" in capsys.readouterr().out
    assert plan.main([]) == 2
