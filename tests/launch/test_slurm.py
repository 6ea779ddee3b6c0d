from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bertjax.errors import DATA, DIVERGED, LOST, STOPPED, UNKNOWN, USAGE

NEEDED = {"CONFIG": "configs/large.py", "CORPUS": "/shared/corpora/wiki", "WORKDIR": "/shared/runs/large"}
JOB = {**NEEDED, "SLURM_JOB_ID": "123"}
SCRIPT = "slurm.sbatch"

# A stand-in for srun with two processes: runs the command for each in turn; the highest exit code is its own.
SRUN = """\
#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
highest=0
for SLURM_PROCID in 0 1; do
  export SLURM_PROCID
  "$@"
  code=$?
  (( code > highest )) && highest=$code
done
exit $highest
"""


@pytest.fixture
def job(stage):
    """A SLURM job whose two processes end with the given codes."""

    def prepare(*codes: int, state: str = "RUNNING"):
        stage.stub("scontrol")
        stage.stub("squeue", ("--jobs=123", state, 0))
        stage.stub("python", *[("bertjax.train", "", code) for code in codes])
        (stage.folder / "bin/srun").write_text(SRUN.replace("/usr/bin/env bash", str(stage.folder / "bin/bash")))
        (stage.folder / "bin/srun").chmod(0o755)
        return stage

    return prepare


def test_shellcheck_has_nothing_to_say(shellcheck):
    assert shellcheck(SCRIPT) == ""


def test_asks_for_a_signal_in_time_and_for_being_requeued():
    lines = (Path(__file__).parents[2] / "launch" / SCRIPT).read_text().splitlines()
    options = [line.split(maxsplit=1)[1] for line in lines if line.startswith("#SBATCH")]
    assert {"--requeue", "--open-mode=append", "--signal=B:TERM@600", "--ntasks-per-node=1"} <= set(options)


@pytest.mark.parametrize("absent", [{name} for name in JOB] + [set(JOB)], ids=lambda names: "+".join(sorted(names)))
def test_missing_variables_are_named_at_once(job, absent):
    stage = job(0)
    done = stage.run(SCRIPT, **{k: v for k, v in JOB.items() if k not in absent})
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert set(done.stderr.split("not set:")[1].split(" (")[0].split()) == absent
    assert not stage.calls()


def test_dry_run_prints_what_would_run(stage):
    done = stage.run(SCRIPT, "--config.name=it's two", DRY_RUN="1", **NEEDED)
    assert done.returncode == 0
    command = shlex.split(done.stdout.split("\n# when")[0])
    assert command[0] == "srun"
    assert command[-5:] == [
        "bertjax.train",
        "--config=configs/large.py",
        "--workdir=/shared/runs/large",
        "--config.data.corpus=/shared/corpora/wiki",
        "--config.name=it's two",
    ]
    assert "scontrol requeue" in done.stdout


@pytest.mark.parametrize(("cpus", "option"), [("16", ["--cpus-per-task=16"]), (None, [])])
def test_a_task_gets_the_processors_that_the_job_asked_for(stage, cpus, option):
    """srun itself takes no notice of them since Slurm 22.05."""
    known = {"SLURM_CPUS_PER_TASK": cpus} if cpus else {}
    done = stage.run(SCRIPT, DRY_RUN="1", **NEEDED, **known)
    command = shlex.split(done.stdout.split("\n# when")[0])
    assert done.returncode == 0 and [word for word in command if "cpus" in word] == option
    assert command.index("bash") > len(option)


def test_arguments_reach_the_training_word_for_word(job):
    stage = job(0)
    arguments = ["--config.name=two words", '--a="$HOME" it\'s', "--c=*"]
    assert stage.run(SCRIPT, *arguments, **JOB).returncode == 0
    assert [call[-3:] for call in stage.calls("bertjax.train")] == [arguments, arguments]


@pytest.mark.parametrize("code", [STOPPED, LOST])
def test_a_stopped_or_lost_run_goes_into_the_queue_again(job, code):
    stage = job(code)
    assert stage.run(SCRIPT, **JOB).returncode == 0
    assert stage.calls("scontrol") == [["scontrol", "requeue", "123"]]


@pytest.mark.parametrize("code", [0, UNKNOWN, USAGE, DATA, DIVERGED, 137])
def test_every_other_end_is_one(job, code):
    stage = job(code)
    assert stage.run(SCRIPT, **JOB).returncode == code
    assert not stage.calls("scontrol")


def test_one_failed_process_among_lost_ones_ends_the_run(job):
    stage = job(LOST, DATA)
    assert stage.run(SCRIPT, **JOB).returncode == DATA
    assert not stage.calls("scontrol")


def test_a_cancelled_job_stays_cancelled(job):
    stage = job(STOPPED, state="COMPLETING")
    assert stage.run(SCRIPT, **JOB).returncode == STOPPED
    assert not stage.calls("scontrol")


def test_the_signal_reaches_the_processes_and_their_exit_code_comes_back(job):
    stage = job()
    # A process that saves for a moment after SIGTERM. SLURM signals all processes of a step: so does this srun.
    (stage.folder / "bin/srun").write_text(
        f"#!{stage.folder}/bin/bash\n"
        "while [[ $1 == --* ]]; do shift; done\nset -m\n\"$@\" &\ntrap 'kill -TERM -$!' TERM\n"
        "wait $!\nwait $!\n"
    )
    (stage.folder / "bin/python").write_text(
        f"#!{stage.folder}/bin/bash\ntrap 'sleep 0.3; exit 75' TERM\n"
        f"touch {stage.folder}/begun\nwhile :; do sleep 0.05; done\n"
    )
    (stage.folder / "bin/python").chmod(0o755)
    command = ["bash", "launch/slurm.sbatch"]
    with subprocess.Popen(command, env=stage.environment(**JOB), stdout=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 20
            while not (stage.folder / "begun").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGTERM)  # the batch shell alone, as --signal=B:TERM does
            output, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert "exit code 75" in output and process.returncode == 0
    assert stage.calls("scontrol") == [["scontrol", "requeue", "123"]]
