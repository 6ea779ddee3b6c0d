"""The processes of a run keep an eye on each other: over plain TCP, beside the collectives, which may hang.

Process 0 listens; every process (0 too) keeps a connection to it and tells twice a second where it stands.
A connection that breaks, a process that falls silent or does not move, and a failure that a process reports: each
ends all processes at once, with the same message. Values that process 0 settles for all go the same way.
Messages are JSON lines.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bertjax.command import LOST
from bertjax.parallel.cluster import Cluster
from bertjax.parallel.progress import Progress

BEAT_SECONDS = 0.5
SILENCE_SECONDS = 60.0  # without a beat: longer than any pause of a healthy machine
LINE_LIMIT = 1 << 24
IN_STEP = "in the step"


@dataclass
class Peer:
    """What process 0 knows of a process. age: seconds it has not moved, by its own clock; heard: monotonic."""

    rank: int
    machine: str
    heard: float
    step: int = 0
    stage: str = "starting"
    paused: bool = True
    age: float = 0.0
    leaving: bool = False

    def __str__(self) -> str:
        return f"process {self.rank} on {self.machine}"


def verdict(peers: list[Peer], now: float, stall_seconds: float, silence_seconds: float) -> str | None:
    """What is wrong, in one line that names the process and its step, or None.

    When one stalls all soon wait for it: the one to blame is silent, or in the lowest step, or not yet in its step.
    """
    for peer in peers:
        if now - peer.heard > silence_seconds:
            where = f"last seen at step {peer.step} ({peer.stage})"
            return f"{peer} has been silent for {now - peer.heard:.0f} s, {where}"
    if not stall_seconds or any(peer.paused for peer in peers):
        return None
    slowest = min(peers, key=lambda peer: (peer.step, peer.stage == IN_STEP))
    if max(peer.age for peer in peers) > stall_seconds:
        return f"{slowest} has stalled at step {slowest.step} ({slowest.stage}) for {slowest.age:.0f} s"
    return None


def silence_limit(stall_seconds: float) -> float:
    """Seconds without a beat after which a process is given up."""
    return min(SILENCE_SECONDS, stall_seconds or SILENCE_SECONDS)


class Server:
    """Process 0's part: knows every process, hands out what process 0 shares, and ends all when one fails."""

    def __init__(self, cluster: Cluster, stall_seconds: float):
        self._count = cluster.num_processes
        self._stall = stall_seconds
        self._silence = silence_limit(stall_seconds)
        self._peers: dict[int, tuple[Peer, asyncio.StreamWriter]] = {}
        self._waiting: dict[str, dict[int, Any]] = {}
        self._failed = False

    async def start(self, host: str, port: int, seconds: float) -> None:
        """Listens. Raises OSError where it cannot; a name that is not known yet is asked for again."""
        end = time.monotonic() + seconds
        while True:
            try:
                self._listening = await asyncio.start_server(self._connected, host, port, limit=LINE_LIMIT)
                return
            except socket.gaierror:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(BEAT_SECONDS)

    async def watch(self) -> None:
        """Looks at the processes, for ever."""
        async with self._listening:
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                first = self._peers.get(0)
                self._tell({"tick": first[0].step if first else 0})
                peers = [peer for peer, _ in self._peers.values() if not peer.leaving]
                wrong = verdict(peers, time.monotonic(), self._stall, self._silence)
                if wrong:
                    self._fail(wrong, LOST)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hello = json.loads(await reader.readline())
            rank, machine = int(hello["bertjax"]), str(hello["machine"])
            if rank in self._peers or int(hello["of"]) != self._count:
                again = f"process {rank} of {hello['of']} from {machine} does not belong to these {self._count}"
                await _send(writer, {"failed": f"{again}, or is there twice", "code": 2})
                return
        except (ValueError, KeyError, TypeError, OSError):  # somebody else's knock at the port
            writer.close()
            return
        peer = Peer(rank, machine, time.monotonic())
        self._peers[rank] = peer, writer
        if self._failed:
            writer.write(_line(self._failure))
        try:
            while line := await reader.readline():
                peer.heard = time.monotonic()
                self._take(peer, json.loads(line))
        except (OSError, ValueError):
            pass
        writer.close()
        if not peer.leaving:
            self._fail(f"{peer} was lost at step {peer.step} ({peer.stage})", LOST)

    async def others_gone(self, seconds: float) -> None:
        """Returns when only process 0 is still connected, or after so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(w.is_closing() for rank, (_, w) in self._peers.items() if rank):
            await asyncio.sleep(BEAT_SECONDS / 10)

    def _take(self, peer: Peer, message: dict[str, Any]) -> None:
        if "step" in message:
            for name in ("step", "stage", "paused", "age"):
                setattr(peer, name, message[name])
        elif "failed" in message:
            peer.leaving = True
            self._fail(message["failed"], message["code"])
        elif "share" in message:
            values = self._waiting.setdefault(message["share"], {})
            values[peer.rank] = message["value"]
            if len(values) == self._count:
                self._tell({"shared": message["share"], "value": self._waiting.pop(message["share"])[0]})
        elif "leaving" in message:
            peer.leaving = True

    def _fail(self, message: str, code: int) -> None:
        if not self._failed:
            self._failed, self._failure = True, {"failed": message, "code": code}
            self._tell(self._failure)

    def _tell(self, message: dict[str, Any]) -> None:
        for _, writer in self._peers.values():
            if not writer.is_closing():
                writer.write(_line(message))


class Monitor:
    """A process's connection to process 0, in a thread of its own.

    ended: called with (message, code) when this process must end; from the thread, at any moment.
    """

    def __init__(
        self,
        cluster: Cluster,
        bind: str,
        progress: Progress,
        stall_seconds: float,
        ended: Callable[[str, int], None],
    ):
        self._cluster, self._bind, self._progress, self._ended = cluster, bind, progress, ended
        self._server = Server(cluster, stall_seconds) if cluster.process_id == 0 else None
        self._silence = silence_limit(stall_seconds)
        self._shared: dict[str, Any] = {}
        self._news = threading.Condition()
        self._left = False
        self._first_step, self._first_heard = 0, time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._writer: asyncio.StreamWriter | None = None
        self._connected = threading.Event()

    def join(self, seconds: float) -> None:
        """Connects to process 0, which may still be starting. Raises TimeoutError; OSError where 0 cannot listen."""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(seconds,), name="monitor", daemon=True)
        self._thread.start()
        self._connected.wait()
        if self._error is not None:
            raise self._error

    def share(self, name: str, value: Any, seconds: float | None = None) -> Any:
        """Waits until every process has come here, and returns process 0's ``value`` (JSON). Each name is used once.

        Raises TimeoutError after so many seconds; None: waits for ever.
        """
        with self._progress.pause(f"waiting for the others at {name!r}"):
            self._send({"share": name, "value": value if self._cluster.process_id == 0 else None})
            with self._news:
                if not self._news.wait_for(lambda: name in self._shared, seconds):
                    raise TimeoutError(f"not all {self._cluster.num_processes} processes are there after {seconds} s")
        return self._shared.pop(name)

    def report(self, message: str, code: int) -> None:
        """Ends all other processes with this message; this one is about to end by itself."""
        self._left = True
        self._send({"failed": message, "code": code})
        time.sleep(4 * BEAT_SECONDS if self._server is not None else BEAT_SECONDS)  # for the message to get out

    def leave(self) -> None:
        """A good end: all processes wait for each other, and then nobody minds a closed connection."""
        self.share("the end", None)
        self._left = True
        self._send({"leaving": True})
        time.sleep(2 * BEAT_SECONDS if self._server is not None else 0.1)
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(BEAT_SECONDS)

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    def _send(self, message: dict[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._write, message)

    def _write(self, message: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(_line(message))

    def _run(self, seconds: float) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live(seconds))
        except BaseException as error:
            self._error = error
            if self._connected.is_set() and not self._left:
                self._ended(f"the monitor of process {self._cluster.process_id} failed: {error!r}", LOST)
            self._connected.set()

    async def _live(self, seconds: float) -> None:
        port = self._cluster.port + 1
        if self._server is not None:
            await self._server.start(self._bind, port, seconds)
            self._watching = asyncio.ensure_future(self._server.watch())
            self._watching.add_done_callback(self._no_longer_watching)
        host = self._bind if self._server is not None else self._cluster.host
        reader, self._writer = await _connect(host, port, seconds)
        me = {"bertjax": self._cluster.process_id, "of": self._cluster.num_processes, "machine": socket.gethostname()}
        self._writer.write(_line(me))
        self._first_heard = time.monotonic()
        beats = asyncio.ensure_future(self._beat())
        self._connected.set()
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if "failed" in message and not self._left and self._server is not None:
                    # jax's coordinator ends with process 0, and that aborts whoever is still there.
                    await self._server.others_gone(4 * BEAT_SECONDS)
                self._hear(message)
        except OSError:
            pass
        beats.cancel()
        if not self._left:
            self._ended(f"process 0 was lost at step {self._first_step}", LOST)

    def _no_longer_watching(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and not self._left:
            self._ended(f"process 0 no longer watches the others: {task.exception()!r}", LOST)

    async def _beat(self) -> None:
        while True:
            p = self._progress
            self._write({"step": p.step, "stage": p.stage, "paused": p.paused, "age": p.age()})
            silence = time.monotonic() - self._first_heard
            if silence > self._silence + BEAT_SECONDS and not self._left:
                self._ended(
                    f"process 0 has been silent for {silence:.0f} s, last seen at step {self._first_step}", LOST
                )
            await asyncio.sleep(BEAT_SECONDS)

    def _hear(self, message: dict[str, Any]) -> None:
        self._first_heard = time.monotonic()
        if "tick" in message:
            self._first_step = message["tick"]
        elif "shared" in message:
            with self._news:
                self._shared[message["shared"]] = message["value"]
                self._news.notify_all()
        elif "failed" in message and not self._left:
            self._ended(message["failed"], message["code"])


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(_line(message))
    await writer.drain()
    writer.close()


async def _connect(host: str, port: int, seconds: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to process 0, tried again until it is there. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await asyncio.open_connection(host, port, limit=LINE_LIMIT)
        except OSError as error:
            if time.monotonic() > end:
                reason = error.strerror or str(error)
                raise TimeoutError(
                    f"process 0 does not answer at {host}:{port} after {seconds:.0f} s ({reason})"
                ) from None
            await asyncio.sleep(BEAT_SECONDS)
