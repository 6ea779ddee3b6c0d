"""One owner a workdir: by the kernel's lock on one machine, by the lease where there is none or between machines."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from bertjax.errors import CheckpointError, ConfigError
from bertjax.workdir import lock
from bertjax.workdir.belongings import LOCK
from bertjax.workdir.lock import workdir_lock

OWNER = """
import sys, pathlib
from bertjax.workdir.lock import workdir_lock
with workdir_lock(pathlib.Path(sys.argv[1])):
    print('mine', flush=True); sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path):
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "mine\n"
        yield process
        process.kill()


def test_workdir_has_one_owner_and_a_dead_one_holds_nothing(owner, tmp_path):
    began = time.monotonic()
    with pytest.raises(ConfigError, match=f"in use by process {owner.pid}.*--workdir"), workdir_lock(tmp_path):
        pass
    owner.kill()
    owner.wait()
    with workdir_lock(tmp_path):
        pass
    assert time.monotonic() - began < lock.RENEW_SECONDS  # nobody had to be watched


def test_unwritable_workdir_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write to workdir"), workdir_lock(tmp_path / "file" / "run"):
        pass


# --- Other machines: no lock of the kernel, and the lease says so ---------------------------------------------------


@pytest.fixture
def apart(monkeypatch):
    """Locks do not reach other machines, every thread is one, and all goes fifty times as fast."""

    def no_lock(handle, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    monkeypatch.setattr(lock, "_machine", lambda handle: threading.current_thread().name)
    for name in ("RENEW_SECONDS", "DEAD_AFTER_SECONDS", "SETTLE_SECONDS"):
        monkeypatch.setattr(lock, name, getattr(lock, name) / 50)


def lease(workdir):
    return json.loads((workdir / LOCK).read_bytes())


def leave_behind(workdir):
    """The lease of a machine that died."""
    abandoned = {"process": 7, "host": "gone", "machine": "another", "owner": "x", "renewed": 3}
    (workdir / LOCK).write_text(json.dumps(abandoned))


def test_a_lease_that_is_renewed_is_respected(apart, tmp_path):
    released, holding = threading.Event(), threading.Event()

    def hold():
        with workdir_lock(tmp_path):
            holding.set()
            released.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(5)
    try:
        for _ in range(3):
            with pytest.raises(ConfigError, match="is in use by process"), workdir_lock(tmp_path):
                pass
        assert lease(tmp_path)["renewed"] > 0 and lease(tmp_path)["machine"] == thread.name
    finally:
        released.set()
        thread.join()
    began = time.monotonic()
    with workdir_lock(tmp_path):  # it has ended well, so nobody waits
        assert time.monotonic() - began < lock.DEAD_AFTER_SECONDS


def test_the_lease_of_a_dead_machine_is_taken_over_after_a_while(apart, tmp_path, capfd):
    leave_behind(tmp_path)
    began = time.monotonic()
    with workdir_lock(tmp_path):
        assert time.monotonic() - began >= lock.DEAD_AFTER_SECONDS
        assert lease(tmp_path)["host"] != "gone"
    assert "process 7 on gone still alive?" in capfd.readouterr().err


def test_of_two_machines_that_take_over_one_wins(apart, tmp_path):
    leave_behind(tmp_path)
    held, refused, guard, everyone = [], [], threading.Lock(), threading.Barrier(4)

    def take():
        everyone.wait()
        try:
            with workdir_lock(tmp_path):
                with guard:
                    held.append(threading.current_thread().name)
                time.sleep(lock.DEAD_AFTER_SECONDS)
        except ConfigError:
            refused.append(threading.current_thread().name)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1 and len(refused) == 3


def test_an_owner_that_stood_still_for_too_long_ends(apart, tmp_path):
    said = []
    with workdir_lock(tmp_path, said.append):
        leave_behind(tmp_path)  # another machine has taken over
        time.sleep(4 * lock.RENEW_SECONDS)
        assert said and "has been taken over by process 7 on gone" in str(said[0])
    assert lease(tmp_path)["host"] == "gone"  # the other's lease is left alone


def test_from_python_that_is_raised(apart, tmp_path):
    with pytest.raises(ConfigError, match="has been taken over by process 7 on gone"), workdir_lock(tmp_path):
        leave_behind(tmp_path)
        for _ in range(500):
            time.sleep(0.01)


# --- The file, or the folder, removed under a running job -------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock, "RENEW_SECONDS", 0.05)


def until(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def held(workdir):
    """Whether another process would be refused."""
    done = subprocess.run([sys.executable, "-c", OWNER, str(workdir)], input="", capture_output=True, check=False)
    return b"is in use by process" in done.stderr


@pytest.mark.parametrize(
    "harm",
    [
        lambda lock: lock.unlink(),
        lambda lock: os.truncate(lock, 0),
        lambda lock: (lock.unlink(), lock.touch()),
        lambda lock: lock.write_bytes(b"\xff not json"),
        lambda lock: lock.rename(lock.with_name("mine")),
    ],
)
def test_a_lease_that_is_gone_is_taken_again(harm, quick, tmp_path):
    lost = []
    with workdir_lock(tmp_path, lost.append):
        harm(tmp_path / LOCK)
        until(lambda: (tmp_path / LOCK).exists() and lock._read(tmp_path).get("process") == os.getpid())
        renewed = lease(tmp_path)["renewed"]
        until(lambda: lease(tmp_path)["renewed"] > renewed)
        assert held(tmp_path)
    assert not lost and not held(tmp_path)
    assert (tmp_path / LOCK).read_bytes() == b""


def test_a_job_whose_place_another_has_taken_ends(monkeypatch, tmp_path):
    """The file was removed and another job has begun, unnoticed: that goes on, and not the first."""
    monkeypatch.setattr(lock, "RENEW_SECONDS", 1.0)
    with pytest.raises(ConfigError, match="has been taken over by process"), workdir_lock(tmp_path):
        (tmp_path / LOCK).unlink()
        command = [sys.executable, "-c", OWNER, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            try:
                if other.stdout.readline() == "mine\n":  # else the first was faster, and takes its file again
                    for _ in range(2000):  # seconds, not one: all tests share the machine
                        time.sleep(0.01)
                    pytest.fail("the first job went on beside the second")
                pytest.skip("the machine was too busy")
            finally:
                other.kill()


@pytest.mark.parametrize(
    "harm",
    [
        lambda workdir: shutil.rmtree(workdir),
        lambda workdir: workdir.rename(workdir.with_name("moved")),
        lambda workdir: (workdir.rename(workdir.with_name("moved")), workdir.mkdir()),
    ],
)
def test_a_workdir_that_is_gone_ends_the_job_and_is_not_made_again(harm, quick, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(CheckpointError, match="was removed or moved while the run was in it"), workdir_lock(workdir):
        harm(workdir)
        for _ in range(500):
            time.sleep(0.01)
    assert not workdir.exists() or list(workdir.iterdir()) == []


def test_a_command_leaves_at_once(tmp_path):
    code = """
import sys, time, pathlib
from bertjax.errors import CheckpointError
from bertjax.workdir import lock
lock.RENEW_SECONDS = 0.05
with lock.workdir_lock(pathlib.Path(sys.argv[1]), lock.leave):
    print("mine", flush=True); time.sleep(20)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "mine\n"
        (tmp_path / "run").rename(tmp_path / "moved")
        assert process.wait(10) == 3
        err = process.stderr.read()
    assert err.startswith("error: workdir ") and "removed or moved" in err and err.count("\n") == 1
