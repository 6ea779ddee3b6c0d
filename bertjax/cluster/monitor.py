"""Processes watch each other over TCP; a lost connection, silence or a bad message ends them in Monitor._end.

Collectives may hang, so every process, including 0, keeps a connection to process 0, authenticates (``handshake``) and
reports its stage twice a second. Process 0 (``Server``) finds what failed and tells all. A process that loses process 0
ends by itself. Values that process 0 decides are shared over these connections too.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.handshake import Authenticator, authenticate
from bertjax.cluster.messages import FROM_CLIENT, FROM_SERVER, MESSAGE_LIMIT, Malformed, failure, packed, receive
from bertjax.cluster.watchdog import IN_STEP, Heartbeat, RunningClock, end_process
from bertjax.errors import LOST, USAGE

BEAT_SECONDS = 0.5
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0  # without a beat; longer than any pause of a healthy machine
# Connections that one turn of the event loop accepts, before the authenticator can drop any.
ACCEPTED_AT_ONCE = 64


class Monitor:
    """A process's connection to process 0, in a thread of its own.

    secret: reads the run's secret; may raise OSError or ValueError while there is none. ended: called from that thread
    with (message, exit code) when this process must end.
    """

    def __init__(
        self,
        cluster: ClusterMember,
        bind: str,
        heartbeat: Heartbeat,
        stall_seconds: float,
        secret: Callable[[], bytes],
        ended: Callable[[str, int], None] = end_process,
    ):
        self._cluster, self._bind, self._heartbeat, self._ended = cluster, bind, heartbeat, ended
        self._secret = secret
        self._silence = min(SILENCE_SECONDS, stall_seconds or SILENCE_SECONDS)
        is_server = cluster.process_id == 0
        self._server = Server(cluster, stall_seconds, self._silence, secret()) if is_server else None
        self._clock = RunningClock(longest_gap=4 * BEAT_SECONDS)
        self._shared: dict[str, Future[Any]] = {}
        self._left = False
        self._first_step, self._first_heard = 0, self._clock.now()
        self._loop = asyncio.new_event_loop()
        self._writer: asyncio.StreamWriter | None = None
        self._joined: Future[None] = Future()

    def _end(self, message: str, code: int = LOST) -> None:
        """Ends this process (``watchdog.end_process``) unless it is leaving; whatever is found wrong comes here."""
        if not self._left:
            self._ended(message, code)

    def join(self, seconds: float) -> None:
        """Connects to process 0, which may still be starting. Raises TimeoutError; OSError if 0 cannot listen."""
        self._thread = threading.Thread(target=self._run, args=(seconds,), name="monitor", daemon=True)
        self._thread.start()
        self._joined.result()

    def share(self, name: str, value: Any, seconds: float | None = None) -> Any:
        """Waits until every process calls this, and returns process 0's ``value`` (JSON). Each name is used once.
        Raises TimeoutError after so many seconds (None: never), ValueError for a value of many megabytes."""
        with self._heartbeat.pause(f"waiting for the others at {name!r}"):
            message = {"share": name, "value": value if self._cluster.process_id == 0 else None}
            if len(packed(message)) > MESSAGE_LIMIT // 2:
                raise ValueError(f"{name!r} is too large to share with the other processes")
            answer = self._shared[name] = Future()
            self._send(message)
            try:
                return answer.result(seconds)
            except TimeoutError:
                missing = f"not all {self._cluster.num_processes} processes are there after {seconds} s"
                rejected = self._server.authenticator.rejected if self._server else 0
                strangers = f"; {rejected} connections that do not know the run's secret were turned away"
                raise TimeoutError(missing + strangers * bool(rejected)) from None

    def report(self, message: str, code: int) -> None:
        self._left = True
        self._send(failure(message, code))
        time.sleep(4 * BEAT_SECONDS if self._server is not None else BEAT_SECONDS)  # for the message to get out

    def leave(self) -> None:
        """Ends without a failure: all processes wait for each other before any connection closes."""
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
            self._writer.write(packed(message))

    def _run(self, seconds: float) -> None:
        self._loop.set_exception_handler(_no_broken_connections)
        try:
            self._loop.run_until_complete(self._live(seconds))
        except BaseException as error:
            if self._joined.done():
                self._end(f"the monitor of process {self._cluster.process_id} failed: {error!r}")
            else:
                self._joined.set_exception(error)

    async def _live(self, seconds: float) -> None:
        host, port, tasks = self._cluster.host, self._cluster.port + 1, []
        if self._server is not None:
            host = self._bind
            await self._server.start(host, port, seconds)
            tasks.append(asyncio.ensure_future(self._server.watch()))
        reader, first = await self._admitted(host, port, seconds)
        self._first_heard = self._clock.now()
        tasks += [asyncio.ensure_future(self._beat()), asyncio.ensure_future(self._listen(reader))]
        self._joined.set_result(None)
        self._hear(first)
        done, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        for task in done:
            task.result()

    async def _admitted(self, host: str, port: int, seconds: float) -> tuple[asyncio.StreamReader, dict[str, Any]]:
        """Retries until process 0 welcomes this process; returns its first message too. Raises TimeoutError."""
        end, reason = time.monotonic() + seconds, ""
        while True:
            writer = None
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(host, port)
                secret = self._secret()
                async with asyncio.timeout(max(end - time.monotonic(), BEAT_SECONDS)):
                    first = await authenticate(self._cluster, socket.gethostname(), secret, reader, writer)
                self._writer = writer
                return reader, first
            except Malformed:
                reason = f"the process at {host}:{port} does not know the secret of this run"
            except ValueError as error:  # of the secret
                reason = str(error)
            except (OSError, EOFError) as error:
                if isinstance(error, EOFError) or (writer is not None and error.filename is None):
                    # Dropped among too many connections, for example; an earlier reason says more.
                    reason = reason or f"process 0 at {host}:{port} closes the connection"
                elif writer is None:
                    why = error.strerror or str(error) or "no answer"
                    reason = f"process 0 does not answer at {host}:{port} after {seconds:.0f} s ({why})"
                else:
                    reason = f"the secret of this run cannot be read: {error.filename}: {error.strerror}"
            if writer is not None:
                writer.transport.abort()
            if time.monotonic() > end:
                raise TimeoutError(reason)
            await asyncio.sleep(BEAT_SECONDS)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                message = await receive(reader, FROM_SERVER)
                if "failed" in message and not self._left and self._server is not None:
                    # jax's coordinator ends with process 0, and that aborts whoever is still there.
                    await self._server.others_gone(4 * BEAT_SECONDS)
                self._hear(message)
        except (OSError, EOFError):
            self._end(f"process 0 was lost at step {self._first_step}")
        except Malformed as error:
            self._end(f"process 0 sent an unknown message ({error})")

    async def _beat(self) -> None:
        while True:
            p = self._heartbeat
            self._write({"step": p.step, "stage": p.stage, "paused": p.paused, "age": p.age()})
            silence = self._clock.now() - self._first_heard
            if silence > self._silence + BEAT_SECONDS:
                self._end(f"process 0 has been silent for {silence:.0f} s, last seen at step {self._first_step}")
            await asyncio.sleep(BEAT_SECONDS)

    def _hear(self, message: dict[str, Any]) -> None:
        self._first_heard = self._clock.now()
        if "tick" in message:
            self._first_step = message["tick"]
        elif "shared" in message:
            self._shared.pop(message["shared"], Future()).set_result(message["value"])
        elif "failed" in message:
            self._end(message["failed"], message["code"])


def _no_broken_connections(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)


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
    """What failed, in one line that names the process and its step, or None. When one stalls, all soon wait for it: the
    one to blame is silent, or in the lowest step, or not yet in its step."""
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


class Server:
    """Process 0's side: it tracks every process, and tells all to end when one is lost, stalls or reports a failure."""

    def __init__(self, cluster: ClusterMember, stall_seconds: float, silence_seconds: float, secret: bytes):
        self._count = cluster.num_processes
        self._limits = stall_seconds, silence_seconds
        self._clock = RunningClock(longest_gap=4 * BEAT_SECONDS)
        self.authenticator = Authenticator(secret, self._count)
        self._peers: dict[int, tuple[Peer, asyncio.StreamWriter]] = {}
        self._waiting: dict[str, dict[int, Any]] = {}
        self._failure: dict[str, Any] | None = None

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
                self._broadcast({"tick": first[0].step if first else 0})
                peers = [peer for peer, _ in self._peers.values() if not peer.leaving]
                wrong = find_failure(peers, self._clock.now(), *self._limits)
                if wrong:
                    self._fail(wrong)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the run is over; asyncio would log it
            greeting = await self.authenticator.admit(reader, writer)
            if greeting is None:
                writer.transport.abort()
                return
            rank, machine = greeting["bertjax"], greeting["machine"]
            if rank in self._peers or greeting["of"] != self._count or rank >= self._count:
                stray = f"process {rank} of {greeting['of']} from {machine} is not one of this run's"
                writer.write(packed(failure(f"{stray} {self._count} processes, or joined twice", USAGE)))
                writer.close()
                return
            peer = Peer(rank, machine, self._clock.now())
            self._peers[rank] = peer, writer
            writer.write(packed({"welcome": True}))
            if self._failure is not None:
                writer.write(packed(self._failure))
            try:
                while True:
                    message = await receive(reader, FROM_CLIENT)
                    peer.heard = self._clock.now()
                    self._handle(peer, message)
            except (OSError, EOFError):
                pass
            except Malformed as error:
                self._fail(f"{peer} sent an unknown message ({error})")
            writer.close()
            if not peer.leaving:
                self._fail(f"{peer} was lost at step {peer.step} ({peer.stage})")

    async def others_gone(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(w.is_closing() for rank, (_, w) in self._peers.items() if rank):
            await asyncio.sleep(BEAT_SECONDS / 10)

    def _handle(self, peer: Peer, message: dict[str, Any]) -> None:
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
                self._broadcast({"shared": message["share"], "value": self._waiting.pop(message["share"])[0]})
        else:
            peer.leaving = True

    def _fail(self, message: str, code: int = LOST) -> None:
        if self._failure is None:
            self._failure = failure(message, code)
            self._broadcast(self._failure)

    def _broadcast(self, message: dict[str, Any]) -> None:
        for _, writer in self._peers.values():
            if not writer.is_closing():
                writer.write(packed(message))
