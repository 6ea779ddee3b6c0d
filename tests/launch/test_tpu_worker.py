from __future__ import annotations

import subprocess

import pytest

SHOWN = "LoadState={}\nActiveState={}\nSubState={}\nExecMainCode={}\nExecMainStatus={}"


@pytest.mark.parametrize(
    ("shown", "answer"),
    [
        (("loaded", "active", "running", 0, 0), "running"),
        (("loaded", "activating", "start", 0, 0), "running"),
        (("loaded", "deactivating", "stop-sigterm", 0, 0), "running"),
        (("loaded", "active", "exited", 1, 0), "exit 0"),
        (("loaded", "failed", "failed", 1, 75), "exit 75"),
        (("loaded", "failed", "failed", 1, 3), "exit 3"),
        (("loaded", "failed", "failed", 2, 9), "exit 137"),
        (("not-found", "inactive", "dead", 0, 0), "none"),
        (("loaded", "inactive", "dead", 1, 0), "none"),
    ],
)
def test_state_of_the_unit_becomes_the_state_of_the_run(stage, shown, answer):
    stage.stub("systemctl", ("show bertjax", SHOWN.format(*shown), 0))
    done = stage.run("tpu_worker.sh", "state")
    assert (done.returncode, done.stdout) == (0, f"bertjax: {answer}\n")


def test_start_gives_the_arguments_to_the_unit_word_for_word(stage):
    stage.stub("sudo", ("systemctl", "", 5))  # there is no unit to stop, which is no failure
    arguments = ["--config=configs/large.py", "--config.name=two words", "--a=$HOME's \\"]
    assert stage.run("tpu_worker.sh", "start", *arguments, BERTJAX_LOCAL="/local").returncode == 0
    (call,) = stage.calls("systemd-run")
    at = call.index("/local/venv/bin/python")
    # systemd takes $$ for a plain dollar sign.
    assert call[at + 1 :] == ["-m", "bertjax.train", *(a.replace("$", "$$") for a in arguments)]
    assert {"--unit=bertjax", "--property=RemainAfterExit=yes", "--property=KillMode=mixed"} < set(call[:at])
    assert [c[1:4] for c in stage.calls("systemctl")] == [
        ["systemctl", "stop", "bertjax"],
        ["systemctl", "reset-failed", "bertjax"],
    ]


@pytest.fixture
def worker(stage):
    """A worker whose bucket is a folder: whatever sudo is asked to do, nothing but the stand-ins is run."""
    (stage.folder / "bucket").mkdir()
    (stage.folder / "local").mkdir()
    for program in ("sudo", "gcsfuse", "gcloud", "mountpoint", "python3"):
        (stage.folder / "bin" / program).unlink(missing_ok=True)
        stage.stub(program)

    def install() -> subprocess.CompletedProcess[str]:
        places = {"BERTJAX_MOUNT": str(stage.folder / "bucket"), "BERTJAX_LOCAL": str(stage.folder / "local")}
        return stage.run("tpu_worker.sh", "install", "my-bucket", "corpora/wiki", **places)

    return install


def test_install_mounts_the_bucket_once_and_copies_the_corpus(stage, worker):
    stage.stub("mountpoint", ("-q", "", 1), ("-q", "", 0))
    assert worker().returncode == 0
    (mounted,) = stage.calls("systemd-run", "gcsfuse")
    assert mounted[-2:] == ["my-bucket", str(stage.folder / "bucket")] and "--metadata-cache-ttl-secs=0" in mounted
    assert "--file-mode=600" in mounted  # as a secret needs it that the processes share
    assert worker().returncode == 0
    assert len(stage.calls("systemd-run")) == 1
    assert stage.calls("rsync")[0][-2:] == ["gs://my-bucket/corpora/wiki", str(stage.folder / "local/corpus")]
    assert not list((stage.folder / "bucket").iterdir())  # nothing is left of trying it out


def test_a_bucket_that_cannot_rename_folders_is_refused(stage, worker):
    (stage.folder / "bin" / "mv").unlink()
    stage.stub("mv", ("", "", 1))
    done = worker()
    assert done.returncode == 2 and "hierarchical namespace" in done.stderr
    assert not stage.calls("uv")


def test_a_bucket_that_cannot_be_mounted_is_told(stage, worker):
    stage.stub("mountpoint", ("", "", 1))
    for program in ("seq", "sleep"):
        (stage.folder / "bin" / program).unlink()
    stage.stub("seq", ("60", "1 2 3", 0))
    stage.stub("sleep")
    done = worker()
    assert done.returncode == 2 and "my-bucket could not be mounted" in done.stderr
    assert len(stage.calls("sleep")) == 3
