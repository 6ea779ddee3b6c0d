"""Messages between the processes of a run: JSON lines, each checked against a schema before it is used."""

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from bertjax.errors import DATA, DIVERGED, INTERRUPTED, LOST, UNKNOWN, USAGE

# Bytes of a line. The longest is the stored config.json of the run, which process 0 shares with all.
MESSAGE_LIMIT = 1 << 24
_TEXT_LIMIT = 10_000
# Exit codes with which a process may end the others: neither 0 (done) nor 75 (saved).
CODES = (UNKNOWN, USAGE, DATA, DIVERGED, LOST, INTERRUPTED)


class Malformed(ValueError):
    """A line that is not a message."""


Check = Callable[[Any], bool]
Schema = tuple[Mapping[str, Check], ...]

_text: Check = lambda value: isinstance(value, str) and len(value) <= _TEXT_LIMIT
_true: Check = lambda value: value is True
_flag: Check = lambda value: isinstance(value, bool)
_any: Check = lambda value: True
_code: Check = lambda value: type(value) is int and value in CODES
_seconds: Check = lambda value: type(value) in (int, float) and 0 <= value < math.inf


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


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


def line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def parse(content: bytes, schema: Schema) -> dict[str, Any]:
    """The message in a line. Raises Malformed unless the schema allows its fields and their values."""
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


class LineReader:
    """Lines from a connection, with a limit for each that the caller sets: before a handshake it is small."""

    def __init__(self, reader: asyncio.StreamReader):
        self._reader, self._kept = reader, bytearray()

    async def next(self, limit: int) -> bytes:
        """The next line without its end. Raises Malformed for more than ``limit`` bytes, EOFError, OSError."""
        seen = 0
        while (end := self._kept.find(b"\n", seen)) < 0:
            seen = len(self._kept)
            if seen > limit:
                break
            if not (more := await self._reader.read(1 << 16)):
                raise EOFError
            self._kept += more
        if not 0 <= end <= limit:
            raise Malformed(f"a line of more than {limit} bytes")
        content = bytes(self._kept[:end])
        del self._kept[: end + 1]
        return content
