"""Programs that other threads compile before they are called."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import jax

# On a GPU a compile autotunes kernels, and needs an idle device.
COMPILED_AHEAD_ON = ("cpu", "tpu")
COMPILING_THREADS = 2  # a compile keeps a core and a half busy; tracing is Python, one at a time

# The arguments of a function as ShapeDtypeStructs with shardings.
Shapes = tuple[Any, ...]


def is_possible() -> bool:
    """A run of several processes compiles nothing ahead, as all have to compile in the same order."""
    return jax.process_count() == 1 and jax.default_backend() in COMPILED_AHEAD_ON


class CompiledAhead:
    """A jitted function whose programs, each under a key, can be compiled before they are called."""

    def __init__(self, function: Any):
        self._function = function
        self._programs: dict[Any, Future[Any]] = {}

    def __call__(self, key: Any, *arguments: Any) -> Any:
        """The function's result; the first call with a key waits for its program, or compiles it."""
        program = self._programs.get(key)
        if program is not None and program.exception() is None:
            return program.result()(*arguments)
        # What failed in another thread is tried again here, where its error is raised if it fails again.
        return self._function(*arguments)

    def is_ahead(self, key: Any) -> bool:
        """Whether the program is there, compiled by another thread."""
        program = self._programs.get(key)
        return program is not None and program.done() and program.exception() is None

    @contextlib.contextmanager
    def compiling(self, arguments: Mapping[Any, Callable[[], Shapes]]) -> Iterator[None]:
        """While the block runs, threads compile for these shapes, by key, in order. A call compiles what they have not
        begun by then."""
        threads = ThreadPoolExecutor(COMPILING_THREADS, thread_name_prefix="compiling")
        for key, shapes in arguments.items():
            if is_possible() and key not in self._programs:
                self._programs[key] = threads.submit(self._compiled, shapes)
        try:
            yield
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            self._programs = {key: made for key, made in self._programs.items() if not made.cancelled()}

    def _compiled(self, shapes: Callable[[], Shapes]) -> Any:
        return self._function.lower(*shapes()).compile()


@contextlib.contextmanager
def steps_of_stages(
    stages: Mapping[int, str], make: Callable[[int], Any], shapes: Callable[[int], Shapes], say: Callable[[str], None]
) -> Iterator[Callable[[int], Callable[..., Any]]]:
    """``step(stage)``, the jitted function ``make(stage)``; while one stage runs, that of the next is compiled.

    stages: number -> name of those that take steps, in order. shapes: of the arguments of a stage's step. say: gets a
    line where a stage finds its step compiled. An error in the other thread is met where its stage begins.
    """
    after = dict(itertools.pairwise(stages))
    # This stage and the next; a rollback may begin its stage again.
    program = lru_cache(2)(lambda stage: CompiledAhead(make(stage)))
    with contextlib.ExitStack() as compiling:

        def step(stage: int) -> Callable[..., Any]:
            own, waiting = program(stage), [after[stage]] if stage in after and is_possible() else []
            if own.is_ahead(stage):
                say(f"{stages[stage]}: its step is compiled already")

            def call(*arguments: Any) -> Any:
                result = own(stage, *arguments)
                if waiting:  # after the first call, as the step at hand is compiled first
                    following = waiting.pop()
                    compiling.enter_context(program(following).compiling({following: partial(shapes, following)}))
                return result

            return call

        yield step
