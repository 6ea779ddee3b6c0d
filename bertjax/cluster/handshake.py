"""Authentication at the monitor's port: both sides prove that they know the run's secret.

The process sends a nonce, process 0 answers with its own and a proof over both (HMAC-SHA256), the process answers with
another proof. Until then a message is at most ``GREETING_LIMIT`` bytes long, and its content is not trusted.
"""

import asyncio
import hmac
import json
import secrets
from typing import Any

from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.messages import FROM_SERVER, Check, Malformed, Schema, is_count, packed, receive

GREETING_LIMIT = 1024  # bytes of a message before authentication
HANDSHAKE_SECONDS = 5.0
MOST_UNAUTHENTICATED = 64  # unauthenticated connections, besides the processes of the run
_NONCE_BYTES = 32

_is_hex: Check = lambda value: (
    isinstance(value, str) and len(value) == 2 * _NONCE_BYTES and set(value) <= set("0123456789abcdef")
)
_is_name: Check = lambda value: isinstance(value, str) and len(value) <= 255 and value.isascii() and value.isprintable()
_GREETING: Schema = ({"bertjax": is_count, "of": is_count, "machine": _is_name, "nonce": _is_hex},)
_ANSWER: Schema = ({"nonce": _is_hex, "proof": _is_hex},)
_PROOF: Schema = ({"proof": _is_hex},)


def _proof(secret: bytes, side: str, greeting: dict[str, Any], nonce: str) -> str:
    said = json.dumps([side, nonce, *(greeting[name] for name in ("nonce", "bertjax", "of", "machine"))])
    return hmac.new(secret, said.encode(), "sha256").hexdigest()


class Authenticator:
    """Process 0's side. It drops the oldest of too many unauthenticated connections; the run's own connect again."""

    def __init__(self, secret: bytes, count: int):
        self._secret, self._most = secret, MOST_UNAUTHENTICATED + count
        self._waiting: dict[asyncio.StreamWriter, None] = {}
        self.rejected = 0

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, Any] | None:
        """The greeting of a process that proves that it knows the secret; None for all others."""
        if len(self._waiting) >= self._most:
            longest = next(iter(self._waiting))
            del self._waiting[longest]
            longest.transport.abort()
        self._waiting[writer] = None
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                greeting = await receive(reader, _GREETING, GREETING_LIMIT)
                nonce = secrets.token_hex(_NONCE_BYTES)
                writer.write(packed({"nonce": nonce, "proof": _proof(self._secret, "first", greeting, nonce)}))
                proof = (await receive(reader, _PROOF, GREETING_LIMIT))["proof"]
            if hmac.compare_digest(proof, _proof(self._secret, "process", greeting, nonce)):
                return greeting
        except (OSError, EOFError, Malformed):  # TimeoutError is an OSError
            pass
        finally:
            self._waiting.pop(writer, None)
        self.rejected += 1
        return None


async def authenticate(
    cluster: ClusterMember, machine: str, secret: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> dict[str, Any]:
    """A process's side; returns the first message of process 0. After Malformed, OSError, EOFError one may retry."""
    greeting = {
        "bertjax": cluster.process_id,
        "of": cluster.num_processes,
        "machine": machine if _is_name(machine) else "?",
        "nonce": secrets.token_hex(_NONCE_BYTES),
    }
    writer.write(packed(greeting))
    async with asyncio.timeout(HANDSHAKE_SECONDS):
        answer = await receive(reader, _ANSWER, GREETING_LIMIT)
    if not hmac.compare_digest(answer["proof"], _proof(secret, "first", greeting, answer["nonce"])):
        raise Malformed("the proof is wrong")
    writer.write(packed({"proof": _proof(secret, "process", greeting, answer["nonce"])}))
    return await receive(reader, FROM_SERVER)
