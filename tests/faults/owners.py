"""Two jobs on one workdir: the second is refused at once; a dead owner holds nothing."""

from __future__ import annotations

import functools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import condition
import scene
from comparison import differences
from result import Result
from runs import Run
from whole import copy, whole

BAR = "the second is refused within 1 s and before jax is imported; the next start after a kill succeeds"
STEP = 15
LIMIT_SECONDS = 1.0
# A start that lost the processor to others is tried again: it is bertjax that is held to the limit.
ATTEMPTS = 3
COMMAND = """
import sys
from bertjax.train.__main__ import main
code = main()
print("jax" in sys.modules)
sys.exit(code)
"""


def processor() -> float:
    """Seconds that ended children had of a processor: what counts where others keep this machine busy."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def owners(count: int, seed: int, clock: Callable[[], float] = time.monotonic) -> Result:
    """``count`` owners that are intruded upon and then killed; refusals are timed by ``clock``."""
    result, seconds = Result("owners", BAR), []
    for number in range(seed, seed + count):
        wrong = _together(number) if number % 5 == 4 else _intruded(number, seconds, clock)
        result.tried += 1
        if wrong:
            again = f"python tests/faults/catalogue.py --only owners --seed {number} --count 1"
            result.failures.append(f"{'; '.join(wrong)}  [{again}]")
    if seconds:
        result.figures = {"refused after": f"{min(seconds):.2f} to {max(seconds):.2f} s"}
    return result


def slow_steps(seconds: float) -> None:
    """Every step takes so long, so that there is time to intrude."""
    import bertjax.engine.fit as loop

    fast = loop.updates

    def slow(*arguments):
        for update in fast(*arguments):
            time.sleep(seconds)
            yield update

    loop.updates = slow


def _intruded(seed: int, seconds: list[float], clock: Callable[[], float]) -> list[str]:
    """While one trains - every third one stands still - another comes; then it is killed, and the next one goes on."""
    draw, run = random.Random(seed), copy("owned", STEP)
    before = len(run.trace())
    owner = condition.start(run, functools.partial(slow_steps, 1.0))
    if not run.wait_for(owner, lambda trace: any(line["what"] == "at" for line in trace[before:])):
        return [f"the owner did not start: {owner.said()}"]
    (process,) = owner.processes
    if seed % 3 == 2:
        os.kill(process.pid, signal.SIGSTOP)
    fastest, wrong = _refused(run, f"in use by process {process.pid} on {os.uname().nodename}", clock)
    seconds.append(fastest)
    time.sleep(draw.uniform(0, 1.0))
    wrong += [] if process.is_alive() else [f"the owner has ended: {owner.said()}"]
    owner.kill()
    after = condition.end(run)
    wrong += [] if after.code == 0 else [f"the start after the kill ended with {after.code}: {after.last()}"]
    return _closed(run, wrong)


def _refused(run: Run, owner: str, clock: Callable[[], float]) -> tuple[float, list[str]]:
    """The least seconds that a refusal took, and what was wrong with it."""
    fastest, wrong = float("inf"), []
    for _ in range(ATTEMPTS):
        began = clock()
        command = [f"--config={scene.config_file()}", f"--workdir={run.workdir}", *run.overrides]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *command], cwd=scene.ROOT, capture_output=True, text=True, timeout=60
        )
        fastest = min(fastest, clock() - began)
        ended = condition.Ended(done.returncode, done.stderr, time.monotonic())
        wrong = ended.refused(2, owner)
        if done.stdout.split() != ["False"]:
            wrong.append(f"jax was imported before: {done.stdout}")
        if wrong or fastest < LIMIT_SECONDS:
            break
    return fastest, wrong + [f"refused after {fastest:.2f} s only"] * (fastest > LIMIT_SECONDS)


def _together(seed: int) -> list[str]:
    """Two that start at the same time: one of them is refused, and the other does all there is to do."""
    run = copy("together", STEP)
    starts = [condition.start(run, functools.partial(slow_steps, 0.1)) for _ in range(2)]
    codes = [start.wait()[0] for start in starts]
    wrong = [] if sorted(codes, key=str) == [0, 2] else [f"two at once ended with {codes}"]
    return _closed(run, wrong)


def _closed(run: Run, wrong: list[str]) -> list[str]:
    wrong = wrong or differences(run, whole())
    if not wrong:
        shutil.rmtree(run.folder)
    return wrong


FAULTS = {"owners": owners}
