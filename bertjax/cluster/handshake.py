"""Authentication at the monitor's port: both sides prove that they know the run's secret.

The process sends a nonce, process 0 answers with its own and a proof over both (HMAC-SHA256), the process answers with
another proof. Until then a line is at most ``GREETING_LIMIT`` bytes long, and its content is not trusted.
"""

import asyncio
import hmac
import json
import secrets
from typing import Any

from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.messages import FROM_SERVER, MESSAGE_LIMIT, LineReader, Malformed, Schema, is_count, line, parse

GREETING_LIMIT = 1024  # bytes of a line before authentication
HANDSHAKE_SECONDS = 5.0
MOST_UNAUTHENTICATED = 64  # unauthenticated connections, besides the processes of the run
_NONCE_BYTES = 32


def _is_hex(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 2 * _NONCE_BYTES and set(value) <= set("0123456789abcdef")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 255 and value.isascii() and value.isprintable()


_GREETING: Schema = ({"bertjax": is_count, "of": is_count, "machine": _is_name, "nonce": _is_hex},)
_ANSWER: Schema = ({"nonce": _is_hex, "proof": _is_hex},)
_PROOF: Schema = ({"proof": _is_hex},)


class NotAuthenticated(Exception):
    """The other side does not know the secret of the run."""


def _proof(secret: bytes, side: str, greeting: dict[str, Any], nonce: str) -> str:
    said = json.dumps([side, nonce, *(greeting[name] for name in ("nonce", "bertjax", "of", "machine"))])
    return hmac.new(secret, said.encode(), "sha256").hexdigest()


class Authenticator:
    """Process 0's side. If too many connections are unauthenticated, it drops the oldest; the run's own processes
    connect again."""

    def __init__(self, secret: bytes, count: int):
        self._secret, self._most = secret, MOST_UNAUTHENTICATED + count
        self._waiting: dict[asyncio.StreamWriter, None] = {}
        self.rejected = 0

    async def admit(self, lines: LineReader, writer: asyncio.StreamWriter) -> dict[str, Any] | None:
        if len(self._waiting) >= self._most:
            longest = next(iter(self._waiting))
            del self._waiting[longest]
            longest.transport.abort()
        self._waiting[writer] = None
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                return await self._greeted(lines, writer)
        except (OSError, EOFError, Malformed, NotAuthenticated):  # TimeoutError is an OSError
            self.rejected += 1
            return None
        finally:
            self._waiting.pop(writer, None)

    async def _greeted(self, lines: LineReader, writer: asyncio.StreamWriter) -> dict[str, Any]:
        greeting = parse(await lines.next(GREETING_LIMIT), _GREETING)
        nonce = secrets.token_hex(_NONCE_BYTES)
        writer.write(line({"nonce": nonce, "proof": _proof(self._secret, "first", greeting, nonce)}))
        proof = parse(await lines.next(GREETING_LIMIT), _PROOF)["proof"]
        if not hmac.compare_digest(proof, _proof(self._secret, "process", greeting, nonce)):
            raise NotAuthenticated
        return greeting


async def authenticate(
    cluster: ClusterMember, machine: str, secret: bytes, lines: LineReader, writer: asyncio.StreamWriter
) -> dict[str, Any]:
    """A process's side; returns the first message of process 0, a welcome or a failure.

    Raises NotAuthenticated, Malformed, OSError or EOFError, after which the caller may try again.
    """
    greeting = {
        "bertjax": cluster.process_id,
        "of": cluster.num_processes,
        "machine": machine if _is_name(machine) else "?",
        "nonce": secrets.token_hex(_NONCE_BYTES),
    }
    writer.write(line(greeting))
    async with asyncio.timeout(HANDSHAKE_SECONDS):
        answer = parse(await lines.next(GREETING_LIMIT), _ANSWER)
    if not hmac.compare_digest(answer["proof"], _proof(secret, "first", greeting, answer["nonce"])):
        raise NotAuthenticated
    writer.write(line({"proof": _proof(secret, "process", greeting, answer["nonce"])}))
    return parse(await lines.next(MESSAGE_LIMIT), FROM_SERVER)
