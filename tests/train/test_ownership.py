"""One owner a workdir: by the kernel's lock on one machine, by the lease where there is none or between machines."""

import errno
import fcntl
import json
import subprocess
import sys
import threading
import time

import pytest

from bertjax.config import ConfigError
from bertjax.train import ownership
from bertjax.train.ownership import FILE, claimed

OWNER = """
import sys, pathlib
from bertjax.train.ownership import claimed
with claimed(pathlib.Path(sys.argv[1])):
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
    with pytest.raises(ConfigError, match=f"in use by process {owner.pid}.*--workdir"), claimed(tmp_path):
        pass
    owner.kill()
    owner.wait()
    with claimed(tmp_path):
        pass
    assert time.monotonic() - began < ownership.RENEW_SECONDS  # nobody had to be watched


def test_unwritable_workdir_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write to workdir"), claimed(tmp_path / "file" / "run"):
        pass


# --- Other machines: no lock of the kernel, and the lease says so ---------------------------------------------------


@pytest.fixture
def apart(monkeypatch):
    """Locks do not reach other machines, every thread is one, and all goes fifty times as fast."""

    def no_lock(handle, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    monkeypatch.setattr(ownership, "_machine", lambda handle: threading.current_thread().name)
    for name in ("RENEW_SECONDS", "DEAD_AFTER_SECONDS", "SETTLE_SECONDS"):
        monkeypatch.setattr(ownership, name, getattr(ownership, name) / 50)


def lease(workdir):
    return json.loads((workdir / FILE).read_bytes())


def leave_behind(workdir):
    """The lease of a machine that died."""
    abandoned = {"process": 7, "host": "gone", "machine": "another", "owner": "x", "renewed": 3}
    (workdir / FILE).write_text(json.dumps(abandoned))


def test_a_lease_that_is_renewed_is_respected(apart, tmp_path):
    released, holding = threading.Event(), threading.Event()

    def hold():
        with claimed(tmp_path):
            holding.set()
            released.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(5)
    try:
        for _ in range(3):
            with pytest.raises(ConfigError, match="is in use by process"), claimed(tmp_path):
                pass
        assert lease(tmp_path)["renewed"] > 0 and lease(tmp_path)["machine"] == thread.name
    finally:
        released.set()
        thread.join()
    began = time.monotonic()
    with claimed(tmp_path):  # it has ended well, so nobody waits
        assert time.monotonic() - began < ownership.DEAD_AFTER_SECONDS


def test_the_lease_of_a_dead_machine_is_taken_over_after_a_while(apart, tmp_path, capfd):
    leave_behind(tmp_path)
    began = time.monotonic()
    with claimed(tmp_path):
        assert time.monotonic() - began >= ownership.DEAD_AFTER_SECONDS
        assert lease(tmp_path)["host"] != "gone"
    assert "process 7 on gone still alive?" in capfd.readouterr().err


def test_of_two_machines_that_take_over_one_wins(apart, tmp_path):
    leave_behind(tmp_path)
    held, refused, lock, everyone = [], [], threading.Lock(), threading.Barrier(4)

    def take():
        everyone.wait()
        try:
            with claimed(tmp_path):
                with lock:
                    held.append(threading.current_thread().name)
                time.sleep(ownership.DEAD_AFTER_SECONDS)
        except ConfigError:
            refused.append(threading.current_thread().name)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1 and len(refused) == 3


def test_an_owner_that_stood_still_for_too_long_ends(apart, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(ownership, "_leave", said.append)
    with claimed(tmp_path):
        leave_behind(tmp_path)  # another machine has taken over
        time.sleep(4 * ownership.RENEW_SECONDS)
        assert said and "has been taken over by process 7 on gone" in said[0]
    assert lease(tmp_path)["host"] == "gone"  # the other's lease is left alone
