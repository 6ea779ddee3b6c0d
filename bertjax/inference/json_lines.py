"""JSON lines in, JSON lines out: in order, a limited number in memory, a bad line never in the way of the others."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# Results for many texts at once; ValueError where one of them cannot be used.
Work = Callable[[list[str]], list[dict[str, Any]]]


def answered(lines: Iterable[bytes], work: Work, at_once: int) -> Iterator[dict[str, Any]]:
    """One object for every line that is not empty: the line's own with the results of its "text" added.

    A line is a JSON object with "text", or a JSON string. One that cannot be used is answered by an object with
    "line", its number, and "error".
    """
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    for lot in iter(lambda: list(itertools.islice(numbered, at_once)), []):
        records = [_record(line) for _, line in lot]
        texts = [record["text"] for record in records if "error" not in record]
        results = iter(_results(texts, work))
        for (number, _), record in zip(lot, records, strict=True):
            answer = record if "error" in record else record | next(results)
            yield {"line": number, "error": answer["error"]} if "error" in answer else answer


def _record(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {"error": f"no JSON: {' '.join(str(error).split())[:200]}"}
    value = {"text": value} if isinstance(value, str) else value
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return {"error": 'must be an object with a string "text", or a string'}
    value.pop("error", None)
    return value


def _results(texts: list[str], work: Work) -> list[dict[str, Any]]:
    try:
        return work(texts) if texts else []
    except ValueError as error:
        if len(texts) == 1:
            return [{"error": str(error).replace("texts[0]", "text")}]
        half = len(texts) // 2  # the others should not be done one by one for it
        return _results(texts[:half], work) + _results(texts[half:], work)
