"""How long a program takes to trace and to compile, and whether it came from the cache of compiled programs."""

import time
from typing import Any, NamedTuple

import jax

_HIT = "/jax/compilation_cache/cache_hits"


class Compiled(NamedTuple):
    program: Any  # jax.stages.Compiled
    trace_seconds: float
    compile_seconds: float
    from_cache: bool


def compiled(function: Any, *arguments: Any) -> Compiled:
    """A jitted function, compiled for the arguments."""
    hits: list[str] = []
    listen = lambda event, **_: hits.append(event) if event == _HIT else None
    began = time.perf_counter()
    lowered = function.lower(*arguments)
    traced = time.perf_counter()
    jax.monitoring.register_event_listener(listen)
    try:
        program = lowered.compile()
    finally:
        jax.monitoring.unregister_event_listener(listen)
    return Compiled(program, traced - began, time.perf_counter() - traced, bool(hits))
