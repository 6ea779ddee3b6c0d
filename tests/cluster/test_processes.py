"""Real processes on this machine, over Gloo: the same run however it is laid out, and ended together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from group import free_port

import bertjax

ROOT = Path(__file__).parent.parent.parent
LAYOUTS, STRETCH = (Path(__file__).parent / name for name in ("layouts.py", "stretch.py"))
MESHES = ("8,1,1", "4,2,1", "2,2,2", "1,8,1", "1,1,8")

CONFIG = """
from bertjax.config import default_config, phase

def get_config():
    config = default_config()
    config.name = "test"
    config.precision = "float32"
    config.model.update(
        vocab_size=600, hidden_size=32, num_hidden_layers=1, num_attention_heads=8, intermediate_size=64
    )
    config.data.corpus = {corpus!r}
    config.data.block_tokens = 20_000
    config.phases.phase1 = phase(
        sequence_length=32, batch_size=16, steps=20, max_predictions=5, learning_rate=1e-2, warmup_steps=2
    )
    config.phases.phase2 = phase(sequence_length=64, batch_size=8, steps=4, max_predictions=10)
    config.checkpoint.every_steps = 1000
    config.logging.every_steps = 1
    config.logging.tensorboard = False
    config.evaluation.max_rows = 32
    return config
"""


class Job:
    """``count`` processes with ``devices`` CPU devices each; ``command(index, port)`` is one's command line."""

    def __init__(self, folder, count, devices, command, cache=None):
        folder.mkdir(parents=True, exist_ok=True)
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"  # the last counts
        environ = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
        environ |= {"BERTJAX_CACHE": str(cache)} if cache else {}
        self.port = port = free_port()
        self.logs = [folder / f"log{index}" for index in range(count)]
        self.processes = [
            subprocess.Popen(
                [sys.executable, *command(index, port)], env=environ, cwd=ROOT, stdout=log.open("w"), stderr=-2
            )
            for index, log in enumerate(self.logs)
        ]

    def wait(self, seconds=400, but=()):
        """Exit codes of all processes but those of index ``but``."""
        end = time.monotonic() + seconds
        rest = [p for index, p in enumerate(self.processes) if index not in but]
        return [process.wait(max(0.1, end - time.monotonic())) for process in rest]

    def wait_for(self, text, seconds=300):
        """Until process 0 has printed ``text``."""
        end = time.monotonic() + seconds
        while text not in self.log(0):
            assert time.monotonic() < end and self.processes[0].poll() is None, self.log(0)
            time.sleep(0.1)

    def log(self, index):
        return self.logs[index].read_text()

    def errors(self, index):
        """Lines of this process that report a mistake; each carries its number."""
        return [line for line in self.log(index).split("\n") if line.startswith(f"[{index}] error:")]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def config_file(corpus_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.py"
    path.write_text(CONFIG.format(corpus=str(corpus_file)))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(config_file, cache, tmp_path):
    """``train(count, devices, workdir, *overrides)``: a run of the command, by so many processes."""
    started = []

    def start(count, devices, workdir, *overrides, per_process=lambda index: []):
        def command(index, port):
            own = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}", f"--process_id={index}"]
            common = ["-m", "bertjax.train", f"--config={config_file}", f"--workdir={workdir}", *overrides]
            return [*common, *(own if count > 1 else []), *per_process(index)]

        job = Job(tmp_path / f"logs{len(started)}", count, devices, command, cache)
        started.append(job)
        return job

    yield start
    for job in started:
        job.__exit__()


# --- One run, however it is laid out -----------------------------------------------------------------------------


def seen(tmp_path, count, devices, meshes):
    """What each process wrote down of each mesh, and that the compiler found a way for every array."""
    folder = tmp_path / f"{count}x{devices}"
    command = lambda index, port: [LAYOUTS, str(index), str(count), str(port), str(folder / f"out{index}"), *meshes]
    with Job(folder, count, devices, command) as job:
        assert job.wait(1500) == [0] * count, job.log(0)[-3000:]
        assert not any("full rematerialization" in job.log(index) for index in range(count))
    return [json.loads((folder / f"out{index}").read_text()) for index in range(count)]


def joined(parts):
    """Dicts of several processes as one; where two know the same key they must agree."""
    whole = {}
    for part in parts:
        assert all(whole.get(key, value) == value for key, value in part.items())
        whole |= part
    return whole


def check_same_run(group, mesh, reference):
    """Batches and masks identical, losses within 1e-5, and under FSDP each device its share and no more."""
    of = lambda name: [process[mesh][name] for process in group]
    assert joined(of("batches")) == reference["batches"]
    assert joined(of("masks")) == reference["masks"]
    assert len(set(of("params"))) == 1
    for losses in of("losses"):
        np.testing.assert_allclose(losses, reference["losses"], rtol=1e-5)
    fsdp = int(mesh.split(",")[1])
    assert max(joined(of("bytes")).values()) <= 1.05 * of("total_bytes")[0] / fsdp


@pytest.mark.parametrize("mesh", ["1,2,1", *(pytest.param(m, marks=pytest.mark.slow) for m in ("2,1,1", "1,1,2"))])
def test_two_processes_are_two_devices_bit_for_bit(mesh, tmp_path):
    (one,), two = seen(tmp_path, 1, 2, (mesh,)), seen(tmp_path, 2, 1, (mesh,))
    assert [process[mesh]["losses"] for process in two] == [one[mesh]["losses"]] * 2
    assert [process[mesh]["params"] for process in two] == [one[mesh]["params"]] * 2
    assert joined([process[mesh]["batches"] for process in two]) == one[mesh]["batches"]


@pytest.mark.slow  # every layout has it too
def test_a_mesh_over_processes_is_the_same_run(tmp_path):
    (one,) = seen(tmp_path, 1, 8, ("8,1,1",))
    group = seen(tmp_path, 2, 4, ("2,2,2", "1,8,1"))
    for mesh in group[0]:
        check_same_run(group, mesh, one["8,1,1"])


@pytest.mark.slow
def test_every_layout_is_the_same_run(tmp_path):
    """1 process x 8 devices, 2 x 4, 4 x 2, 8 x 1, each with every mesh."""
    reference = None
    for count in (1, 2, 4, 8):
        group = seen(tmp_path, count, 8 // count, MESHES)
        reference = reference or group[0]["8,1,1"]
        for mesh in MESHES:
            check_same_run(group, mesh, reference)


def rows(workdir):
    """Loss and gradient norm of every step on record."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().split("\n") if line]
    return {row["step"]: [row["loss"], row["grad_norm"]] for row in lines if row["kind"] == "train"}


# At the config's 1e-2 a difference in the last bit grows a thousandfold in ten steps, whatever the layout.
STRETCH_RATE = 1e-3


def check_chain(train, config_file, cache, tmp_path, layouts, total):
    """A run that is stopped after every step or two and goes on in another layout, against one that is not."""
    plain, moved = tmp_path / "plain", tmp_path / "moved"
    phases = [f"--config.phases.phase1.steps={total // 2}", f"--config.phases.phase2.steps={total - total // 2}"]
    phases.append(f"--config.phases.phase1.learning_rate={STRETCH_RATE}")
    assert train(1, 8, plain, *phases).wait() == [0]
    for number, (count, mesh) in enumerate(layouts):
        last = number == len(layouts) - 1
        rest = (mesh, total, STRETCH_RATE, "ends" if last else "stops")
        command = lambda index, port, count=count, rest=rest: [
            str(part) for part in (STRETCH, index, count, port, config_file, moved, *rest)
        ]
        with Job(tmp_path / f"stretch{number}", count, 8 // count, command, cache) as job:
            assert job.wait() == [0 if last else 75] * count, job.log(0)[-3000:]
    expected, found = rows(plain), rows(moved)
    assert found.keys() == expected.keys()
    for step in expected:
        np.testing.assert_allclose(found[step], expected[step], rtol=1e-5)


@pytest.mark.slow  # with one process it is in tests/train/test_run.py
def test_a_checkpoint_goes_on_in_another_layout(train, config_file, cache, tmp_path):
    layouts = [(2, "4,2,1"), (1, "1,1,8")]
    check_chain(train, config_file, cache, tmp_path, layouts, total=3)


@pytest.mark.slow
def test_a_checkpoint_of_any_layout_goes_on_in_any_other(train, config_file, cache, tmp_path):
    """All twenty, one after the other; several processes take two steps before they stop, one takes one."""
    layouts = [(count, mesh) for mesh in MESHES for count in (1, 2, 4, 8)]
    check_chain(train, config_file, cache, tmp_path, layouts, total=sum(1 if n == 1 else 2 for n, _ in layouts))


# --- Ended together ------------------------------------------------------------------------------------------------

FOR_EVER = "--config.phases.phase1.steps=1000000"


def listening_at(ports):
    """Addresses, as Linux writes them in hexadecimal, at which anybody on this machine listens at these ports."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().split("\n")[1:]]
    listening = [line[1].split(":") for line in lines if line and line[3] == "0A"]
    return {address for address, port in listening if int(port, 16) in ports}


# 127.0.0.1, plain and as gRPC binds it, mapped into IPv6.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_killing_one_ends_the_others(count, train, tmp_path):
    job = train(count, 1, tmp_path / "run", FOR_EVER)
    job.wait_for("step       1/")
    assert listening_at({job.port}) and listening_at({job.port + 1})
    assert listening_at({job.port, job.port + 1}) <= LOOPBACK  # no other interface
    killed = count // 2
    job.processes[killed].kill()
    began = time.monotonic()
    codes = job.wait(15, but=[killed])
    assert codes == [71] * (count - 1)
    assert time.monotonic() - began < 15
    for index in set(range(count)) - {killed}:
        assert len(job.errors(index)) == 1
        assert f"process {killed} on" in job.errors(index)[0] and "was lost at step" in job.errors(index)[0]


@pytest.mark.slow
def test_killing_the_first_ends_the_others(train, tmp_path):
    job = train(2, 1, tmp_path / "run", FOR_EVER)
    job.wait_for("step       1/")
    job.processes[0].kill()
    # jax may see it before the monitor does, and abort; launch/ takes that for 71.
    assert job.wait(15, but=[0])[0] in (71, -signal.SIGABRT)


@pytest.mark.parametrize("which", ["coordinator", "monitor"])
def test_a_port_that_is_taken_is_one_line(which, train, tmp_path):
    port = free_port()
    taken = port if which == "coordinator" else port + 1
    with socket.socket() as other:
        other.bind(("127.0.0.1", taken))
        other.listen()
        common = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
        first = train(1, 1, tmp_path / "run", *common, "--process_id=0")
        if which == "coordinator":
            second = train(1, 1, tmp_path / "run", *common, "--process_id=1")
            assert second.wait(60) == [2]
        assert first.wait(60) == [2]
    assert len(first.errors(0)) == 1 and str(taken) in first.errors(0)[0]


@pytest.mark.parametrize("stopped", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_that_stalls_is_found_and_named(stopped, train, tmp_path):
    job = train(2, 1, tmp_path / "run", FOR_EVER, "--config.parallel.watchdog_seconds=20")
    job.wait_for("step       1/")
    job.processes[stopped].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert job.wait(60, but=[stopped]) == [71]
    assert 15 < time.monotonic() - began < 25
    (error,) = job.errors(1 - stopped)
    assert f"process {stopped}" in error and "silent" in error and "at step" in error


def test_a_signal_to_one_stops_all_at_the_same_step(train, tmp_path):
    job = train(2, 1, tmp_path / "run", FOR_EVER)
    job.wait_for("step       1/")
    job.processes[1].send_signal(signal.SIGTERM)
    assert job.wait(120) == [75, 75]
    said = [line[4:] for index in (0, 1) for line in job.log(index).split("\n") if "stopped at step" in line]
    assert len(said) == 2 and len(set(said)) == 1
    steps = [int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit()]
    assert f"stopped at step {max(steps)}" in job.log(0)


def test_a_signal_during_an_evaluation_stops_all_at_the_same_batch(train, cache, tmp_path, monkeypatch):
    """Of an evaluation of minutes; what is made up for afterwards is what one process alone finds."""
    pairs = tmp_path / "pairs.jsonl"
    words = ("function", "list", "number", "string", "value", "object", "module", "file")
    sentence = lambda n: " ".join(words[n >> 3 * place & 7] for place in range(6))
    lines = ({"sentence_good": sentence(n), "sentence_bad": sentence(n + 1)} for n in range(0, 60_000, 2))
    pairs.write_text("\n".join(map(json.dumps, lines)))
    options = [f"--config.evaluation.blimp.data={pairs}", "--config.evaluation.blimp.every_steps=1"]
    options += ["--config.phases.phase1.steps=1", "--config.phases.phase2.steps=1"]
    job = train(2, 1, tmp_path / "run", *options)
    job.wait_for("step 1/2")  # said between the step and its evaluation
    job.processes[1].send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert job.wait(120) == [75, 75]
    assert time.monotonic() - began < 30
    assert all("stopped at step 1;" in job.log(index) and "held out at" not in job.log(index) for index in (0, 1))

    monkeypatch.setenv("BERTJAX_CACHE", str(cache))
    job = train(2, 1, tmp_path / "run", *options, "--config.evaluation.blimp.limit=30")
    assert job.wait() == [0, 0], job.log(0)[-3000:]
    log = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    found = {row["step"]: row["blimp.accuracy"] for row in log if row["kind"] == "eval"}
    assert found.keys() == {1, 2}
    alone = bertjax.evaluate.run(tmp_path / "run", "blimp", pairs, limit=30)["scores"]["accuracy"]["value"]
    assert found[2] == pytest.approx(alone, abs=1 / 30)


def test_processes_must_be_started_alike(train, tmp_path):
    job = train(2, 1, tmp_path / "run", per_process=lambda index: [f"--config.seed={index}"])
    assert job.wait(120) == [2, 2]
    assert any("seed = 1 here, 0 there" in line for line in job.errors(1))
    assert any("process 1 on" in line and "seed = 1 here, 0 there" in line for line in job.errors(0))
    assert not (tmp_path / "run" / "checkpoints").exists()
