"""Strangers at the monitor's port for minutes: the run ends as the one that was left alone, and holds no more.

They are threads of this process, on loopback only, and know nothing but the port and the protocol.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import resource
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from comparison import differences
from kills import unkilled
from result import Result
from runs import Run
from scene import STEPS

from bertjax.cluster.messages import MESSAGE_LIMIT, packed

BAR = "bit-identical to the run left alone, quiet log, at most 100 MB and 300 descriptors more"
SILENT = 2000  # connections that say nothing and stay
# At the door wait 66; more come in at once, 64 in each of the few turns of the loop that it takes to send them away.
MOST_MEGABYTES, MOST_DESCRIPTORS = 100, 300
# What a log would have of a stranger.
NOISE = ("Traceback", "exception", "Error", "error:", "warning:")
ODD_VALUES = [None, True, -1, 0, 71, 1.5, 10**30, float("nan"), "", "x" * 2000, [], {}, [[1]], {"a": 1}]
MESSAGES: tuple[dict[str, Any], ...] = (
    {"bertjax": 1, "of": 2, "machine": "here", "nonce": "0" * 64},
    {"bertjax": 99, "of": 2, "machine": "here"},
    {"nonce": "0" * 64, "proof": "0" * 64},
    {"proof": "0" * 64},
    {"step": 3, "stage": "in the step", "paused": False, "age": 1.0},
    {"failed": "it is over", "code": 0},
    {"share": "all are there", "value": 1},
    {"leaving": True},
    {"tick": 1},
    {"shared": "answer", "value": 1},
    {"welcome": True},
)


def stranger(count: int, seed: int) -> Result:
    """Strangers for ``count`` minutes at a run of two processes."""
    result = Result("stranger", BAR, tried=1)
    lasting = 60.0 * count
    unkilled("float32", 2)  # what compiles first holds more
    alone, most_alone = _measured("alone", 0.0, None)
    crowd = Crowd(seed, SILENT)
    run, most = _measured("stranger", lasting / STEPS, crowd)
    wrong = [*alone.complaints, *run.complaints]
    wrong = wrong or differences(run.run, alone.run)
    wrong += held_more(most, most_alone)
    wrong += noise((run.run.folder / "log0.1").read_text(errors="replace"))
    wrong += crowd.missed()
    result.figures = {
        "connections": f"{sum(crowd.done.values())} ({', '.join(f'{n} {name}' for name, n in crowd.done.items())})",
        "peak MB of process 0 and 1": f"{most[0].megabytes:.0f} and {most[1].megabytes:.0f}",
        "alone": f"{most_alone[0].megabytes:.0f} and {most_alone[1].megabytes:.0f}",
        "descriptors": f"{most[0].descriptors} and {most[1].descriptors}",
        "descriptors alone": f"{most_alone[0].descriptors} and {most_alone[1].descriptors}",
    }
    if wrong:
        again = f"python tests/faults/catalogue.py --only stranger --seed {seed} --count {count}"
        result.failures.append(f"{'; '.join(wrong)}  [{again}]")
    else:
        shutil.rmtree(run.run.folder)
        shutil.rmtree(alone.run.folder)
    return result


def held_more(most: list[Most], most_alone: list[Most]) -> list[str]:
    """What the processes of a run held beyond what they may, compared with those of one left alone."""
    found = []
    for index, (here, there) in enumerate(zip(most, most_alone, strict=True)):
        if here.megabytes > there.megabytes + MOST_MEGABYTES:
            found.append(f"process {index} held {here.megabytes:.0f} MB, alone {there.megabytes:.0f}")
        if here.descriptors > there.descriptors + MOST_DESCRIPTORS:
            found.append(f"process {index} held {here.descriptors} descriptors, alone {there.descriptors}")
    return found


def noise(log: str) -> list[str]:
    """What a log has of strangers."""
    return [f"its log has {word!r}" for word in NOISE if word in log]


class Ended:
    """A run, and what is wrong with how it ended."""

    def __init__(self, run: Run, complaints: list[str]):
        self.run, self.complaints = run, complaints


class Most:
    """The most that a process held."""

    def __init__(self) -> None:
        self.megabytes, self.descriptors = 0.0, 0

    def look(self, process: int) -> None:
        with contextlib.suppress(OSError, StopIteration):  # it has ended
            folder = Path(f"/proc/{process}")
            self.descriptors = max(self.descriptors, len(list((folder / "fd").iterdir())))
            peak = next(line for line in (folder / "status").read_text().split("\n") if line.startswith("VmHWM"))
            self.megabytes = max(self.megabytes, int(peak.split()[1]) / 1000)


def _measured(name: str, step_seconds: float, crowd: Crowd | None) -> tuple[Ended, list[Most]]:
    run = Run(name, count=2)
    start = run.start(step_seconds=step_seconds)
    most = [Most(), Most()]
    with crowd.at(run.port + 1) if crowd else contextlib.nullcontext():
        end = time.monotonic() + 240 + 2 * STEPS * step_seconds
        while any(process.exitcode is None for process in start.processes) and time.monotonic() < end:
            for one, process in zip(most, start.processes, strict=True):
                one.look(process.pid)
            time.sleep(0.1)
        codes = start.wait(1)
    return Ended(run, [] if codes == [0, 0] else [f"the run {name} ended with {codes}: {start.said()}"]), most


class Crowd:
    """Strangers of every kind; ``done`` counts the connections of each."""

    def __init__(self, seed: int, silent: int):
        self._draw, self._over = random.Random(seed), threading.Event()
        self._silent = min(silent, _descriptors() - 200)
        self._lock = threading.Lock()
        self._kinds: dict[str, Callable[[], None]] = {
            "say random bytes": self._garbage,
            "say wrong messages": self._messages,
            "say nothing": self._keep_silent,
            "say it slowly": self._slowly,
            "never end a message": self._endless,
            "guess": self._guess,
        }
        self.done = dict.fromkeys(self._kinds, 0)
        self._odd = itertools.cycle(list(_odd_messages()))

    def missed(self) -> list[str]:
        """The kinds of which nobody came."""
        return [f"strangers that {name} did not come through" for name, done in self.done.items() if not done]

    @contextlib.contextmanager
    def at(self, port: int) -> Iterator[None]:
        """They come to this port of this machine for as long as the block lasts."""
        self._port = port
        threads = [threading.Thread(target=self._repeat, args=(name,), daemon=True) for name in self._kinds]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(30)

    def _repeat(self, name: str) -> None:
        while not self._over.is_set():
            try:
                self._kinds[name]()
            except OSError:  # nobody listens yet, or any more; or it was thrown out
                self._over.wait(0.05)

    def _knock(self, name: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=5)
        with self._lock:
            self.done[name] += 1
        return connection

    def _garbage(self) -> None:
        with self._knock("say random bytes") as connection:
            content = self._draw.randbytes(self._draw.choice((1, 10, 1000, 1025, 5000, 100_000)))
            connection.sendall(len(content).to_bytes(4, "big") * self._draw.randrange(2) + content)
        self._over.wait(0.005)

    def _messages(self) -> None:
        with self._knock("say wrong messages") as connection:
            for message in itertools.islice(self._odd, 5):
                connection.sendall(message)
        self._over.wait(0.005)

    def _keep_silent(self) -> None:
        kept: list[socket.socket] = []
        try:
            while not self._over.wait(0.001 if len(kept) < self._silent else 1.0):
                if len(kept) >= self._silent:
                    kept.pop(0).close()
                kept.append(self._knock("say nothing"))
        finally:
            for connection in kept:
                connection.close()

    def _slowly(self) -> None:
        message = packed(MESSAGES[0])
        crowd = [self._knock("say it slowly") for _ in range(20)]
        try:
            for place in range(len(message)):
                if self._over.wait(0.1):
                    return
                for connection in crowd:
                    connection.sendall(message[place : place + 1])
        finally:
            for connection in crowd:
                connection.close()

    def _endless(self) -> None:
        with self._knock("never end a message") as connection:
            connection.sendall(self._draw.choice((b"", MESSAGE_LIMIT.to_bytes(4, "big"))))
            for _ in range(64):
                connection.sendall(b"[" * (1 << 18))
        self._over.wait(0.005)

    def _guess(self) -> None:
        """Greets as it should be, for every rank, and answers with made-up proofs and with the server's own."""
        with self._knock("guess") as connection:
            greeting = {"bertjax": self._draw.randrange(3), "of": 2, "machine": "x", "nonce": "1" * 64}
            connection.sendall(packed(greeting))
            received = connection.makefile("rb")
            answer = json.loads(received.read(int.from_bytes(received.read(4), "big")) or "{}")
            proof = self._draw.choice((answer.get("proof", ""), answer.get("nonce", ""), "0" * 64))
            connection.sendall(packed({"proof": proof}) + packed({"failed": "x", "code": 0}))
            connection.recv(1)
        self._over.wait(0.005)


def _odd_messages() -> Iterator[bytes]:
    """Every message, whole, with every field of another kind or value, and without it."""
    for message in MESSAGES:
        changed = [{**message, name: value} for name in message for value in ODD_VALUES]
        without = [{key: message[key] for key in message if key != name} for name in message]
        for odd in (message, *changed, *without):
            yield packed(odd)


def _descriptors() -> int:
    """How many this process may have, after asking for as many as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


FAULTS = {"stranger": stranger}
