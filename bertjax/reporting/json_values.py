"""Checks for values that were read from JSON and may be of any type."""

import math
from typing import Any


def mapping(value: Any) -> dict[str, Any]:
    """``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """``value`` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def number(value: Any) -> float | None:
    """``value`` if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None


def numbers(value: Any) -> dict[str, float]:
    """The entries of a JSON object that are finite numbers."""
    found = {name: number(item) for name, item in mapping(value).items()}
    return {name: item for name, item in found.items() if item is not None}


def count(value: Any) -> int | None:
    """``value`` if it is a non-negative integer."""
    return value if type(value) is int and value >= 0 else None
