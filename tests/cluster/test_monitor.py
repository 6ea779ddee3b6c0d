"""The processes of a run watch each other: what is blamed on whom, and that nobody is left behind."""

import signal
import subprocess
import sys
import time

import pytest
from group import SECRET, Group, free_port

from bertjax.cluster import processes
from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.monitor import Monitor, Peer, find_failure
from bertjax.cluster.processes import distributed_run
from bertjax.cluster.watchdog import IN_STEP, Heartbeat, RunningClock, watchdog
from bertjax.errors import LOST, Lost, exit_code

NOW = 1000.0


def peer(rank, step, stage=IN_STEP, age=0.0, heard=NOW, paused=False):
    return Peer(rank, f"host{rank}", heard, step, stage, paused, age)


def blame(*peers):
    return find_failure(list(peers), NOW, stall_seconds=20, silence_seconds=10)


def test_nothing_is_wrong_while_all_move_or_pause():
    assert blame(peer(0, 5, age=19), peer(1, 6, age=3)) is None
    assert blame(peer(0, 5, age=900), peer(1, 5, paused=True)) is None
    assert find_failure([peer(0, 5, age=900)], NOW, stall_seconds=0, silence_seconds=10) is None


@pytest.mark.parametrize(
    ("peers", "words"),
    [
        ([peer(0, 7, age=25), peer(1, 6, age=25), peer(2, 7, age=25)], "process 1 on host1 has stalled at step 6"),
        ([peer(0, 7, age=25), peer(1, 7, "making a batch", 24)], "process 1 on host1 has stalled at step 7 (making"),
        ([peer(0, 7, age=25), peer(1, 7, heard=NOW - 12)], "process 1 on host1 has been silent for 12 s, last seen"),
        ([peer(0, 7, paused=True), peer(1, 7, heard=NOW - 12)], "process 1 on host1 has been silent"),
    ],
)
def test_the_one_that_the_others_wait_for_is_named(peers, words):
    assert words in blame(*peers)


def test_all_get_what_the_first_has_and_leave_together():
    group = Group(3)
    assert group.each(lambda rank: group.monitors[rank].share("answer", rank + 42)) == [42, 42, 42]
    group.each(lambda rank: group.monitors[rank].leave())
    assert group.ended == []


@pytest.mark.parametrize("here", [0, 1])
def test_a_process_that_is_missing_is_lost_not_a_mistake(here, monkeypatch, tmp_path):
    """The launcher starts all again then, where a mistake would end the job."""
    monkeypatch.setattr(processes, "JOIN_SECONDS", 1.5)
    alone = distributed_run(ClusterMember("127.0.0.1", free_port(), 2, here, "test"), None, 0.0, tmp_path)
    with pytest.raises(Lost, match=f"process {here} cannot join") as lost, alone:
        pass
    assert exit_code(lost.value) == LOST


def test_a_failure_of_one_ends_the_others_with_its_message():
    group = Group(3)
    group.monitors[1].report("process 1: the disk is full", 3)
    messages, codes = group.wait_for_end([0, 2], 5)
    assert messages == {"process 1: the disk is full"} and codes == {3}


def test_a_connection_that_breaks_ends_all():
    group = Group(3)
    group.progress[2].at(IN_STEP, 9)
    time.sleep(1.2)
    monitor = group.monitors[2]
    monitor._loop.call_soon_threadsafe(monitor._writer.transport.abort)  # as when it dies: nobody says good-bye
    _, codes = group.wait_for_end([0, 1, 2], 5)
    assert codes == {LOST}
    others = {message for rank, message, _ in group.ended if rank != 2}
    assert len(others) == 1 and "process 2" in (message := others.pop()) and "was lost at step 9" in message


def test_a_process_that_does_not_move_is_found():
    group = Group(2, stall_seconds=2.0)
    began = time.monotonic()
    group.progress[0].at(IN_STEP, 6)
    group.progress[1].at("making a batch", 6)
    messages, codes = group.wait_for_end([0, 1], 30)
    assert 2 < time.monotonic() - began < 20  # after a stall of 2 s; on a machine that all tests share
    assert codes == {LOST}
    assert all("process 1 on" in message and "stalled at step 6 (making a batch)" in message for message in messages)


def test_a_process_of_another_run_is_refused():
    group = Group(2)
    cluster, refused = ClusterMember("127.0.0.1", group.port, 3, 2, "test"), []
    stranger = Monitor(cluster, "", Heartbeat(), 0.0, lambda: SECRET, lambda *what: refused.append(what))
    stranger.join(10)
    end = time.monotonic() + 5
    while not refused and time.monotonic() < end:
        time.sleep(0.05)
    assert "is not one of this run's 2 processes" in refused[0][0]
    assert refused[0][1] == 2
    assert group.ended == []


def test_nobody_listens():
    cluster = ClusterMember("127.0.0.1", free_port(), 2, 1, "test")
    lonely = Monitor(cluster, "", Heartbeat(), 0.0, lambda: SECRET, lambda *what: None)
    with pytest.raises(TimeoutError, match="process 0 does not answer at"):
        lonely.join(1)


def test_the_watchdog_of_a_process_alone():
    stalled = []
    progress = Heartbeat()
    with watchdog(progress, 0.5, lambda: stalled.append(progress.step)):
        with progress.pause("compiling"):
            time.sleep(1.0)
        assert not stalled
        for step in range(5):
            progress.at(IN_STEP, step)
            time.sleep(0.2)
        assert not stalled
        time.sleep(1.0)
    assert stalled == [4]


class Clock:
    """A clock that stands where the test puts it."""

    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


def test_time_in_which_the_process_was_stopped_does_not_count():
    clock = Clock()
    running = RunningClock(2.0, clock)
    began = running.now()
    for _ in range(10):
        clock.at += 0.5
        running.now()
    clock.at += 3600  # SIGSTOP, an hour, SIGCONT
    assert running.now() - began == 5 + 2
    clock.at += 1
    assert running.now() - began == 5 + 2 + 1


STOPPED_FOR_A_WHILE = """
import os, sys, time
from bertjax.cluster.watchdog import Heartbeat, watchdog
progress = Heartbeat()
with watchdog(progress, 2.0, lambda: (print("stalled", flush=True), os._exit(71))):
    progress.at("in the step", 1)
    print("ready", flush=True)
    sys.stdin.readline()
    time.sleep(0.5)
    print("went on", flush=True)
"""


@pytest.mark.parametrize(("stopped", "said"), [(True, "went on"), (False, "stalled")])
def test_a_process_that_was_stopped_for_longer_than_the_watchdog_goes_on(stopped, said):
    command = [sys.executable, "-c", STOPPED_FOR_A_WHILE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        if stopped:
            process.send_signal(signal.SIGSTOP)
            time.sleep(2.5)
            process.stdin.write("\n")
            process.stdin.flush()
            process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == f"{said}\n"


def test_processes_that_were_all_stopped_do_not_give_each_other_up():
    group = Group(2, stall_seconds=5.0)
    for progress in group.progress:
        progress.clock = RunningClock(2.0)  # as its watchdog sets it
        progress.at(IN_STEP, 3)
    time.sleep(0.6)
    # As after SIGCONT: an hour has gone by on every clock between two looks.
    real = time.monotonic
    clocks = [group.monitors[0]._server._clock, *(m._clock for m in group.monitors), *(p.clock for p in group.progress)]
    for clock in clocks:
        with clock._lock:
            clock._clock = lambda: real() + 3600
    time.sleep(1.5)
    assert group.ended == []
