"""Monitors of several processes, all in this one."""

import contextlib
import random
import socket
import threading
import time

from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.monitor import Monitor
from bertjax.cluster.watchdog import Heartbeat

SECRET = b"what only these processes know"


def free_port():
    """A port that is free, and the one after it: not of those that the system gives to whoever connects."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000, 2)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 1))
            return port


class Group:
    """``ended`` collects (rank, message, code)."""

    def __init__(self, count, stall_seconds=0.0, join=True):
        self.port = free_port()
        self.ended, self.progress = [], [Heartbeat() for _ in range(count)]
        self.monitors = [self.monitor(rank, count, stall_seconds) for rank in range(count)]
        if join:
            self.each(lambda rank: self.monitors[rank].join(10))

    def monitor(self, rank, count, stall_seconds=0.0, secret=lambda: SECRET, ended=None):
        return Monitor(
            ClusterMember("127.0.0.1", self.port, count, rank, "test"),
            "127.0.0.1",
            self.progress[rank],
            stall_seconds,
            secret,
            ended or (lambda message, code: self.ended.append((rank, message, code))),
        )

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
