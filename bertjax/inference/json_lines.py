"""JSON lines in, JSON lines out: in order, a limited number in memory, and a bad line does not stop the others."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from bertjax.cli.json_text import is_finite, parse
from bertjax.cli.showing import short
from bertjax.errors import DataError

# Parsed line -> (object whose fields are kept in the answer, item for ``Work``); ValueError says what it must be.
Read = Callable[[Any], tuple[dict[str, Any], Any]]
# Results for many items at once; ValueError if one of them cannot be used.
Work = Callable[[list[Any]], list[dict[str, Any]]]

NOT_FINITE = "the model's answer is not a finite number; its weights are of no use"
# How errors name the only text of a list; in the answer to a line it is the text.
_ONLY = re.compile(r"\b(text|pair)s\[0\]|\b(question|context)\[0\]")
MOST_BYTES = 4 << 20  # of a line, and of the lines that are worked on at once; tokens take 200 times as much


class TooLong(bytes):
    """Stands for a line that was not kept."""


def bounded_lines(stream: BinaryIO, most: int = MOST_BYTES) -> Iterator[bytes]:
    """The lines of standard input; ``TooLong`` for one of more than ``most`` bytes, which are never held. Raises
    DataError."""
    try:
        while line := stream.readline(most + 1):
            if len(line) <= most or (len(line) == most + 1 and line.endswith(b"\n")):
                yield line
                continue
            yield TooLong(f"longer than {most:,} bytes".encode())
            while line and not line.endswith(b"\n"):
                line = stream.readline(most + 1)
    except OSError as error:
        raise DataError(f"standard input cannot be read: {error.strerror or error}") from None


def answered(
    lines: Iterable[bytes], read: Read, work: Work, at_once: int, most_bytes: int = MOST_BYTES
) -> Iterator[dict[str, Any]]:
    """One object for every line that is not empty: the line's own fields and the results. The answer to a bad line has
    "line", its number, and "error". at_once, most_bytes: of lines that are worked on together. Answers hold finite
    numbers only."""
    for lot in _lots(lines, at_once, most_bytes):
        records = [_record(line, read) for _, line in lot]
        results = iter(_results([item for record, item in records if "error" not in record], work))
        for (number, _), (record, _) in zip(lot, records, strict=True):
            answer = record if "error" in record else record | next(results)
            answer = answer if is_finite(answer) else {"error": NOT_FINITE}
            yield {"line": number, "error": answer["error"]} if "error" in answer else answer


def _lots(lines: Iterable[bytes], at_once: int, most_bytes: int) -> Iterator[list[tuple[int, bytes]]]:
    lot: list[tuple[int, bytes]] = []
    size = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        lot.append((number, line))
        size += len(line)
        if len(lot) == at_once or size >= most_bytes:
            yield lot
            lot, size = [], 0
    if lot:
        yield lot


def _record(line: bytes, read: Read) -> tuple[dict[str, Any], Any]:
    if isinstance(line, TooLong):
        return {"error": line.decode()}, None
    try:
        value = parse(line.rstrip())
    except json.JSONDecodeError as error:
        return {"error": f"not JSON: {error.msg}, column {error.colno}"}, None
    except ValueError as error:
        return {"error": f"not JSON: {short(error, 200)}"}, None
    if isinstance(value, dict):
        value.pop("error", None)
    try:
        return read(value)
    except ValueError as error:
        return {"error": str(error)}, None


def _results(items: list[Any], work: Work) -> list[dict[str, Any]]:
    try:
        return work(items) if items else []
    except ValueError as error:
        if len(items) == 1:
            return [{"error": _ONLY.sub(lambda match: match[1] or match[2], str(error))}]
        half = len(items) // 2  # one bad item is no reason to compute the others one by one
        return _results(items[:half], work) + _results(items[half:], work)
