"""The processes of a run watch each other: what is blamed on whom, and that nobody is left behind."""

import socket
import threading
import time

import pytest

from bertjax.command import LOST, exit_code
from bertjax.parallel import processes
from bertjax.parallel.cluster import Cluster
from bertjax.parallel.monitor import IN_STEP, Monitor, Peer, verdict
from bertjax.parallel.processes import Lost, together
from bertjax.parallel.progress import Progress, Watchdog

NOW = 1000.0


def peer(rank, step, stage=IN_STEP, age=0.0, heard=NOW, paused=False):
    return Peer(rank, f"host{rank}", heard, step, stage, paused, age)


def blame(*peers):
    return verdict(list(peers), NOW, stall_seconds=20, silence_seconds=10)


def test_nothing_is_wrong_while_all_move_or_pause():
    assert blame(peer(0, 5, age=19), peer(1, 6, age=3)) is None
    assert blame(peer(0, 5, age=900), peer(1, 5, paused=True)) is None
    assert verdict([peer(0, 5, age=900)], NOW, stall_seconds=0, silence_seconds=10) is None


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


class Group:
    """Monitors of several processes, all in this one; ``ended`` collects (rank, message, code)."""

    def __init__(self, count, stall_seconds=0.0):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1] - 1
        self.ended, self.progress = [], [Progress() for _ in range(count)]
        self.monitors = [
            Monitor(
                Cluster("127.0.0.1", port, count, rank, "test"),
                "127.0.0.1",
                self.progress[rank],
                stall_seconds,
                lambda message, code, rank=rank: self.ended.append((rank, message, code)),
            )
            for rank in range(count)
        ]
        self.each(lambda rank: self.monitors[rank].join(10))

    def each(self, job):
        """Runs ``job(rank)`` for all ranks at once and returns the results."""
        results = [None] * len(self.monitors)

        def run(rank):
            results[rank] = job(rank)

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(self.monitors))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        return results

    def wait_for_end(self, ranks, seconds):
        end = time.monotonic() + seconds
        while {rank for rank, _, _ in self.ended} != set(ranks) and time.monotonic() < end:
            time.sleep(0.05)
        assert {rank for rank, _, _ in self.ended} == set(ranks)
        return {message for _, message, _ in self.ended}, {code for _, _, code in self.ended}


def test_all_get_what_the_first_has_and_leave_together():
    group = Group(3)
    assert group.each(lambda rank: group.monitors[rank].share("answer", rank + 42)) == [42, 42, 42]
    group.each(lambda rank: group.monitors[rank].leave())
    assert group.ended == []


@pytest.mark.parametrize("here", [0, 1])
def test_a_process_that_is_missing_is_lost_not_a_mistake(here, monkeypatch):
    """The launcher starts all again then, where a mistake would end the job."""
    monkeypatch.setattr(processes, "JOIN_SECONDS", 1.5)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1] - 1
    alone = together(Cluster("127.0.0.1", port, 2, here, "test"), None, 0.0, exit_code)
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
    cluster = group.monitors[0]._cluster
    refused = []
    stranger = Monitor(
        Cluster("127.0.0.1", cluster.port, 3, 2, "test"), "", Progress(), 0.0, lambda *what: refused.append(what)
    )
    stranger.join(10)
    end = time.monotonic() + 5
    while not refused and time.monotonic() < end:
        time.sleep(0.05)
    assert "does not belong to these 2" in refused[0][0]
    assert refused[0][1] == 2
    assert group.ended == []


def test_somebody_elses_knock_changes_nothing():
    group = Group(2)
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"[1, 2]\n", b"\xff\xfe\n", b""):
        with socket.create_connection(("127.0.0.1", group.monitors[0]._cluster.port + 1)) as knock:
            knock.sendall(text)
    assert group.each(lambda rank: group.monitors[rank].share("still here", 1)) == [1, 1]
    assert group.ended == []


def test_nobody_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        lonely = Monitor(
            Cluster("127.0.0.1", probe.getsockname()[1] - 1, 2, 1, "test"), "", Progress(), 0.0, lambda *what: None
        )
        with pytest.raises(TimeoutError, match="process 0 does not answer at"):
            lonely.join(1)


def test_the_watchdog_of_a_process_alone():
    stalled = []
    progress = Progress()
    watchdog = Watchdog(progress, 0.5, lambda: stalled.append(progress.step))
    with progress.pause("compiling"):
        time.sleep(1.0)
    assert not stalled
    for step in range(5):
        progress.at(IN_STEP, step)
        time.sleep(0.2)
    assert not stalled
    time.sleep(1.0)
    assert stalled == [4]
    watchdog.close()
