"""JSON by the standard, without Python's extensions: what is read can be written again, and no value is lost."""

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from bertjax.cli.showing import plain_json, short

_MOST_DIGITS = 4300  # Python converts no more, in either direction
_MOST_DEPTH = 100


def parse(text: bytes) -> Any:
    """The value of a JSON text. Raises ValueError for what is not JSON, numbers that no float holds or that have too
    many digits, for a name that occurs twice in an object, and for more than 100 levels of nesting."""
    with contextlib.suppress(RecursionError):
        value = _DECODER.decode(text.decode("utf-8-sig"))
        if text.count(b"[") + text.count(b"{") <= _MOST_DEPTH or _height(value) <= _MOST_DEPTH:
            return value
    raise ValueError(f"nested more than {_MOST_DEPTH} levels deep")


def read_limited(path: Path, most: int, error: type[Exception]) -> bytes:
    """The content of a file that nobody vouches for. Raises ``error`` for one of more than ``most`` bytes."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as reason:
        raise error(f"{path} cannot be read: {reason.strerror or reason}") from None
    if len(content) > most:
        raise error(f"{path} is larger than {most >> 20} MiB, too large for such a file")
    return content


def parse_stored(
    text: bytes, origin: object, error: type[Exception], kind: type = dict, hook: Callable[..., Any] | None = None
) -> Any:
    """The JSON object, or value of another ``kind``, in a file. Raises ``error`` that starts with ``origin``."""
    try:
        value = json.loads(text.decode("utf-8-sig"), object_pairs_hook=hook)
    except (ValueError, RecursionError) as reason:  # no JSON or UTF-8, a number of thousands of digits, deep nesting
        raise error(f"{origin}: damaged JSON: {short(reason)}") from None
    if not isinstance(value, kind):
        raise error(f"{origin} holds no JSON {'object' if kind is dict else kind.__name__}")
    return value


def dump(value: Any, encoding: str = "utf-8", indent: int | None = None) -> str:
    """``value`` as JSON in characters that the encoding has and that cannot steer a terminal; one line without
    ``indent``. Raises ValueError for numbers that JSON does not have."""
    text = plain_json(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent))
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, indent=indent)
    return text


def is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def nonfinite_as_words(value: Any) -> Any:
    """A JSON value with NaN and infinity, which Python reads and JSON does not have, as words."""
    if isinstance(value, dict):
        return {name: nonfinite_as_words(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [nonfinite_as_words(item) for item in value]
    return value if is_finite(value) else json.dumps(value)


def _height(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_height, inside)) if inside else 0


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
    raise ValueError(f"{name} is not a JSON number")


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these members, for ``json``'s ``object_pairs_hook``. Raises ValueError for a repeated name."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"an object has {name[:40]!r} twice")
        found[name] = value
    return found


_DECODER = json.JSONDecoder(
    parse_float=_float, parse_int=_int, parse_constant=_constant, object_pairs_hook=unique_names
)
