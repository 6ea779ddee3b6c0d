"""Messages between the processes of a run: JSON of a stated length, checked against a schema before it is used."""

import json
import math
from asyncio import StreamReader
from collections.abc import Callable, Mapping
from typing import Any

from bertjax.errors import DATA, DIVERGED, INTERRUPTED, LOST, UNKNOWN, USAGE

# Bytes of a message. The longest is the stored config.json of the run, which process 0 shares with all.
MESSAGE_LIMIT = 1 << 24
_TEXT_LIMIT = 10_000
# Exit codes with which a process may end the others: neither 0 (done) nor 75 (saved).
CODES = (UNKNOWN, USAGE, DATA, DIVERGED, LOST, INTERRUPTED)


class Malformed(ValueError):
    """Not a message, or not from a process that knows the secret of the run."""


Check = Callable[[Any], bool]
Schema = tuple[Mapping[str, Check], ...]

_text: Check = lambda value: isinstance(value, str) and len(value) <= _TEXT_LIMIT
_true: Check = lambda value: value is True
_flag: Check = lambda value: isinstance(value, bool)
_any: Check = lambda value: True
_code: Check = lambda value: type(value) is int and value in CODES
_seconds: Check = lambda value: type(value) in (int, float) and 0 <= value < math.inf
is_count: Check = lambda value: type(value) is int and 0 <= value < 1 << 63

FROM_CLIENT: Schema = (
    {"step": is_count, "stage": _text, "paused": _flag, "age": _seconds},
    {"failed": _text, "code": _code},
    {"share": _text, "value": _any},
    {"leaving": _true},
)
FROM_SERVER: Schema = (
    {"welcome": _true},
    {"tick": is_count},
    {"failed": _text, "code": _code},
    {"shared": _text, "value": _any},
)


def failure(message: str, code: int) -> dict[str, Any]:
    return {"failed": message[:_TEXT_LIMIT], "code": code if code in CODES else UNKNOWN}


def packed(message: Mapping[str, Any]) -> bytes:
    """A message as it is sent: the length of its JSON in 4 bytes, and the JSON."""
    content = json.dumps(message).encode()
    return len(content).to_bytes(4, "big") + content


async def receive(reader: StreamReader, schema: Schema, limit: int = MESSAGE_LIMIT) -> dict[str, Any]:
    """The next message. Raises Malformed, also for more than ``limit`` bytes, EOFError, OSError."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > limit:
        raise Malformed(f"more than {limit} bytes")
    return parse(await reader.readexactly(size), schema)


def parse(content: bytes, schema: Schema) -> dict[str, Any]:
    """The message in some JSON. Raises Malformed unless the schema allows its fields and their values."""
    try:
        message = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {type(error).__name__}") from None
    if not isinstance(message, dict):
        raise Malformed(f"{type(message).__name__} instead of an object")
    fields = next((fields for fields in schema if fields.keys() == message.keys()), None)
    if fields is None:
        raise Malformed(f"no message has the fields {ascii(sorted(message))[:60]}")
    for name, check in fields.items():
        if not check(message[name]):
            raise Malformed(f"{name} cannot be {ascii(message[name])[:60]}")
    return message
