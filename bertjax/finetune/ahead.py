"""Compiles upcoming row lengths in the background, while the devices work on those before them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

# On a GPU a compile tries its kernels out, for which it wants the device to itself.
PLATFORMS = ("cpu",)
THREADS = 2  # a compile keeps a core and a half busy; tracing is Python, one at a time


class Ahead:
    """A jitted function whose programs can be compiled before they are called for, each under a key.

    One of several processes compiles nothing ahead: all of them have to do so in the same order.
    """

    def __init__(self, function: Any):
        self._function = function
        self._programs: dict[Any, Future[Any]] = {}

    def __call__(self, key: Any, *arguments: Any) -> Any:
        """What the function returns; the first call with a key waits for its program, or compiles it."""
        program = self._programs.get(key)
        return self._function(*arguments) if program is None else program.result()(*arguments)

    @contextlib.contextmanager
    def compiling(self, arguments: Mapping[Any, Callable[[], tuple[Any, ...]]]) -> Iterator[None]:
        """While the block runs, threads compile for these shapes (ShapeDtypeStructs with shardings, by key), in order.

        What has not been begun when the block ends is left to a call.
        """
        if jax.process_count() > 1 or jax.default_backend() not in PLATFORMS:
            yield
            return
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="compiling")
        for key, shapes in arguments.items():
            if key not in self._programs:
                self._programs[key] = threads.submit(self._compiled, shapes)
        try:
            yield
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            self._programs = {key: made for key, made in self._programs.items() if not made.cancelled()}

    def _compiled(self, shapes: Callable[[], tuple[Any, ...]]) -> Any:
        return self._function.lower(*shapes()).compile()
