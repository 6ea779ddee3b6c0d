"""JSON as the standard has it: what is read can be written again, and is what the line says."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from bertjax.cli.showing import plain_json

_MOST_DIGITS = 4300  # Python converts no more, in either direction
_MOST_DEPTH = 100


def parsed(text: bytes) -> Any:
    """The value of a JSON text. Raises ValueError for what is no JSON, for numbers that no float holds or that have too
    many digits, for a name that an object has twice, and for more than 100 levels of nesting."""
    try:
        value = _DECODER.decode(text.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if text.count(b"[") + text.count(b"{") > _MOST_DEPTH and _is_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


def written(value: Any, encoding: str = "utf-8", indent: int | None = None) -> str:
    """``value`` as JSON that the encoding has characters for and that cannot steer a terminal; one line without
    ``indent``.

    Raises ValueError for numbers that JSON does not have.
    """
    text = plain_json(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent))
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, indent=indent)
    return text


def is_finite(value: Any) -> bool:
    """Whether all numbers in a JSON value are finite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    return all(map(is_finite, value)) if isinstance(value, list | tuple) else True


def with_words_for_numbers(value: Any) -> Any:
    """A JSON value with NaN and infinity, which Python reads and JSON does not have, as words."""
    if isinstance(value, dict):
        return {name: with_words_for_numbers(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_words_for_numbers(item) for item in value]
    return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value


_TOO_DEEP = f"nested more than {_MOST_DEPTH} levels deep"


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MOST_DEPTH + 1):
        level = [
            item
            for whole in level
            if isinstance(whole, dict | list)
            for item in (whole.values() if isinstance(whole, dict) else whole)
        ]
    return bool(level)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is more than any float holds")
    return value


def _int(digits: str) -> int:
    if len(digits.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits.lstrip('-')):,} digits")
    return int(digits)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"an object has {twice[:40]!r} twice")
    return found


_DECODER = json.JSONDecoder(parse_float=_float, parse_int=_int, parse_constant=_constant, object_pairs_hook=_object)
