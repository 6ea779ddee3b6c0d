"""Process 0's side of the monitor: it tracks every process, and ends all when one fails."""

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Any

from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.handshake import Authenticator
from bertjax.cluster.messages import FROM_CLIENT, MESSAGE_LIMIT, LineReader, Malformed, failure, line, parse
from bertjax.cluster.watchdog import IN_STEP, RunningClock
from bertjax.errors import LOST, USAGE

BEAT_SECONDS = 0.5
# Connections that one turn of the event loop accepts, before the authenticator can drop any.
ACCEPTED_AT_ONCE = 64
SILENCE_SECONDS = 60.0  # without a beat; longer than any pause of a healthy machine


@dataclass
class Peer:
    """The state of a process. age: seconds without progress, by its own clock; heard: time of its last message."""

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


def find_failure(peers: list[Peer], now: float, stall_seconds: float, silence_seconds: float) -> str | None:
    """What failed, in one line that names the process and its step, or None.

    When one stalls, all soon wait for it: the one to blame is silent, or in the lowest step, or not yet in its step.
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
    return min(SILENCE_SECONDS, stall_seconds or SILENCE_SECONDS)


class Server:
    def __init__(self, cluster: ClusterMember, stall_seconds: float, secret: bytes):
        self._count = cluster.num_processes
        self._stall = stall_seconds
        self._silence = silence_limit(stall_seconds)
        self._clock = RunningClock(longest_gap=4 * BEAT_SECONDS)
        self._authenticator = Authenticator(secret, self._count)
        self._peers: dict[int, tuple[Peer, asyncio.StreamWriter]] = {}
        self._waiting: dict[str, dict[int, Any]] = {}
        self._failure: dict[str, Any] | None = None

    @property
    def rejected(self) -> int:
        return self._authenticator.rejected

    async def start(self, host: str, port: int, seconds: float) -> None:
        """Listens, and retries for so many seconds while the host name is unknown. Raises OSError."""
        end = time.monotonic() + seconds
        while True:
            try:
                self._listening = await asyncio.start_server(self._connected, host, port, backlog=ACCEPTED_AT_ONCE)
                return
            except socket.gaierror:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(BEAT_SECONDS)

    async def watch(self) -> None:
        async with self._listening:
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                first = self._peers.get(0)
                self._tell({"tick": first[0].step if first else 0})
                peers = [peer for peer, _ in self._peers.values() if not peer.leaving]
                wrong = find_failure(peers, self._clock.now(), self._stall, self._silence)
                if wrong:
                    self._fail(wrong, LOST)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the run is over; asyncio would log it
            await self._attend(LineReader(reader), writer)

    async def _attend(self, lines: LineReader, writer: asyncio.StreamWriter) -> None:
        greeting = await self._authenticator.admit(lines, writer)
        if greeting is None:
            writer.transport.abort()
            return
        rank, machine = greeting["bertjax"], greeting["machine"]
        if rank in self._peers or greeting["of"] != self._count or rank >= self._count:
            stray = f"process {rank} of {greeting['of']} from {machine} does not belong to these {self._count}"
            writer.write(line(failure(f"{stray}, or is there twice", USAGE)))
            writer.close()
            return
        peer = Peer(rank, machine, self._clock.now())
        self._peers[rank] = peer, writer
        writer.write(line({"welcome": True}))
        if self._failure is not None:
            writer.write(line(self._failure))
        try:
            while True:
                message = parse(await lines.next(MESSAGE_LIMIT), FROM_CLIENT)
                peer.heard = self._clock.now()
                self._take(peer, message)
        except (OSError, EOFError):
            pass
        except Malformed as error:
            self._fail(f"{peer} sent an unknown message ({error})", LOST)
        writer.close()
        if not peer.leaving:
            self._fail(f"{peer} was lost at step {peer.step} ({peer.stage})", LOST)

    async def others_gone(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(w.is_closing() for rank, (_, w) in self._peers.items() if rank):
            await asyncio.sleep(BEAT_SECONDS / 10)

    def _take(self, peer: Peer, message: dict[str, Any]) -> None:
        if "step" in message:
            for name, value in message.items():
                setattr(peer, name, value)
        elif "failed" in message:
            peer.leaving = True
            self._fail(message["failed"], message["code"])
        elif "share" in message:
            values = self._waiting.setdefault(message["share"], {})
            values[peer.rank] = message["value"]
            if len(values) == self._count:
                self._tell({"shared": message["share"], "value": self._waiting.pop(message["share"])[0]})
        else:
            peer.leaving = True

    def _fail(self, message: str, code: int) -> None:
        if self._failure is None:
            self._failure = failure(message, code)
            self._tell(self._failure)

    def _tell(self, message: dict[str, Any]) -> None:
        for _, writer in self._peers.values():
            if not writer.is_closing():
                writer.write(line(message))
