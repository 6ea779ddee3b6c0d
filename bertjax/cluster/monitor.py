"""The processes of a run watch each other over plain TCP, since collectives may hang.

Process 0 listens (``server``). Every process, including 0, keeps a connection to it, authenticates (``handshake``) and
reports its stage twice a second. A broken connection, a process that falls silent or stalls, or a failure that a
process reports ends all processes with the same message. Values that process 0 decides are shared over it too.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.handshake import NotAuthenticated, authenticate
from bertjax.cluster.messages import FROM_SERVER, MESSAGE_LIMIT, LineReader, Malformed, failure, line, parse
from bertjax.cluster.server import BEAT_SECONDS, Server, silence_limit
from bertjax.cluster.watchdog import Heartbeat, RunningClock
from bertjax.errors import LOST

CONNECT_SECONDS = 10.0


class Monitor:
    """A process's connection to process 0, in a thread of its own.

    ended: called with (message, code) from that thread when this process must end. secret: reads the run's secret; may
    raise OSError or ValueError while there is none.
    """

    def __init__(
        self,
        cluster: ClusterMember,
        bind: str,
        heartbeat: Heartbeat,
        stall_seconds: float,
        ended: Callable[[str, int], None],
        secret: Callable[[], bytes],
    ):
        self._cluster, self._bind, self._heartbeat, self._ended = cluster, bind, heartbeat, ended
        self._secret = secret
        self._server = Server(cluster, stall_seconds, secret()) if cluster.process_id == 0 else None
        self._silence = silence_limit(stall_seconds)
        self._clock = RunningClock(longest_gap=4 * BEAT_SECONDS)
        self._shared: dict[str, Any] = {}
        self._news = threading.Condition()
        self._left = False
        self._first_step, self._first_heard = 0, self._clock.now()
        self._loop = asyncio.new_event_loop()
        self._writer: asyncio.StreamWriter | None = None
        self._connected = threading.Event()

    def join(self, seconds: float) -> None:
        """Connects to process 0, which may still be starting. Raises TimeoutError; OSError if 0 cannot listen."""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(seconds,), name="monitor", daemon=True)
        self._thread.start()
        self._connected.wait()
        if self._error is not None:
            raise self._error

    def share(self, name: str, value: Any, seconds: float | None = None) -> Any:
        """Waits until every process calls this, and returns process 0's ``value`` (JSON). Each name is used once.

        Raises TimeoutError after so many seconds (None: never), ValueError for a value of many megabytes.
        """
        with self._heartbeat.pause(f"waiting for the others at {name!r}"):
            message = {"share": name, "value": value if self._cluster.process_id == 0 else None}
            if len(line(message)) > MESSAGE_LIMIT // 2:
                raise ValueError(f"{name!r} is too large to share with the other processes")
            self._send(message)
            with self._news:
                if not self._news.wait_for(lambda: name in self._shared, seconds):
                    missing = f"not all {self._cluster.num_processes} processes are there after {seconds} s"
                    rejected = self._server.rejected if self._server else 0
                    strangers = f"; {rejected} connections that do not know the run's secret were turned away"
                    raise TimeoutError(missing + strangers * bool(rejected))
        return self._shared.pop(name)

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
            self._writer.write(line(message))

    def _run(self, seconds: float) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(_no_broken_connections)
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
        lines, self._writer, first = await self._admitted(host, port, seconds)
        self._first_heard = self._clock.now()
        beats = asyncio.ensure_future(self._beat())
        self._connected.set()
        self._hear(first)
        try:
            while True:
                message = parse(await lines.next(MESSAGE_LIMIT), FROM_SERVER)
                if "failed" in message and not self._left and self._server is not None:
                    # jax's coordinator ends with process 0, and that aborts whoever is still there.
                    await self._server.others_gone(4 * BEAT_SECONDS)
                self._hear(message)
        except (OSError, EOFError):
            pass
        except Malformed as error:
            self._end(f"process 0 sent an unknown message ({error})")
        beats.cancel()
        self._end(f"process 0 was lost at step {self._first_step}")

    async def _admitted(
        self, host: str, port: int, seconds: float
    ) -> tuple[LineReader, asyncio.StreamWriter, dict[str, Any]]:
        """Retries until process 0 welcomes this process; returns the connection and process 0's first message.

        Raises TimeoutError.
        """
        end, reason = time.monotonic() + seconds, ""
        breaks_off = f"process 0 at {host}:{port} breaks off"
        while True:
            writer = None
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(host, port)
                lines, secret = LineReader(reader), self._secret()
                async with asyncio.timeout(max(end - time.monotonic(), BEAT_SECONDS)):
                    first = await authenticate(self._cluster, socket.gethostname(), secret, lines, writer)
                return lines, writer, first
            except (NotAuthenticated, Malformed):
                reason = f"the process at {host}:{port} does not know the secret of this run"
            except ValueError as error:  # of the secret
                reason = str(error)
            except OSError as error:
                if writer is None:
                    why = error.strerror or str(error) or "no answer"
                    reason = f"process 0 does not answer at {host}:{port} after {seconds:.0f} s ({why})"
                elif error.filename is not None:
                    reason = f"the secret of this run cannot be read: {error.filename}: {error.strerror}"
                else:
                    reason = reason or breaks_off
            except EOFError:  # dropped among too many connections
                reason = reason or breaks_off
            if writer is not None:
                writer.transport.abort()
            if time.monotonic() > end:
                raise TimeoutError(reason)
            await asyncio.sleep(BEAT_SECONDS)

    def _end(self, message: str) -> None:
        if not self._left:
            self._ended(message, LOST)

    def _no_longer_watching(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._end(f"process 0 no longer watches the others: {task.exception()!r}")

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
            with self._news:
                self._shared[message["shared"]] = message["value"]
                self._news.notify_all()
        elif "failed" in message and not self._left:
            self._ended(message["failed"], message["code"])


def _no_broken_connections(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)
