"""Seconds of one call of a compiled function."""

import time
from collections.abc import Callable
from typing import Any

import jax

# Calls between two readings of the clock. On accelerators a call may end sooner than the next one is dispatched.
_AT_ONCE = {"cpu": 1}
_AT_ONCE_ELSEWHERE = 8


def timer(function: Callable[..., Any], *arguments: Any) -> Callable[[], float]:
    """``seconds()`` of one call, each time measured anew. The first call, which is slower, is made here."""
    jax.block_until_ready(function(*arguments))
    at_once = _AT_ONCE.get(jax.default_backend(), _AT_ONCE_ELSEWHERE)

    def seconds() -> float:
        began = time.perf_counter()
        for _ in range(at_once):
            result = function(*arguments)
        jax.block_until_ready(result)
        return (time.perf_counter() - began) / at_once

    return seconds
