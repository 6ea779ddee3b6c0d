"""How long a command takes to its first step, and what it compiles, cold and with a warm compile cache.

python tests/benchmarks/first_step.py [--config=tiny] [--starts=3] [--whole] [--json] [--config.KEY=VALUE ...]

The corpus is prepared first, in the usual cache folder, and not counted. Then ``python -m bertjax.train`` is started
with an empty compile cache of its own, in a fresh workdir, and again with what that left. Seconds are from the start
of the process to the line of that stage. ``compiled`` counts the programs that a start adds to the cache, which keeps
all of them. A start ends after its first step, or with ``--whole`` after the run, its evaluations and the export:
with fewer steps by ``--config.phases.phase1.steps=2``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Beginning of a line -> the stage that has ended with it.
STAGES = {"corpus: ": "corpus", "model: ": "model", "step ": "first_step"}


def start(arguments: list[str], folder: Path, environment: dict[str, str], whole: bool) -> dict[str, Any]:
    """Seconds to each stage; raises CalledProcessError."""
    command = [sys.executable, "-u", "-m", "bertjax.train", *arguments, f"--workdir={folder}"]
    began, seconds, lines = time.perf_counter(), {}, []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as job:
        for line in job.stdout:
            lines.append(line)
            stage = next((stage for beginning, stage in STAGES.items() if line.startswith(beginning)), None)
            if stage is not None:
                seconds.setdefault(stage, time.perf_counter() - began)
            if stage == "first_step" and not whole:
                job.send_signal(signal.SIGKILL)
                break
        job.wait()
    if "first_step" not in seconds or (whole and job.returncode):
        raise subprocess.CalledProcessError(job.returncode, command, "".join(lines))
    return seconds | ({"end": time.perf_counter() - began} if whole else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--json", action="store_true")
    options, overrides = parser.parse_known_args()
    arguments = [f"--config={options.config}", *overrides]

    from bertjax.benchmarking.opened_run import opened_run
    from bertjax.cli.flags import parse
    from bertjax.config import resolve

    opened_run(resolve(parse("first_step", arguments, {})[0]), lambda line: print(line, file=sys.stderr))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        programs = Path(folder, "programs")
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(programs),
            "JAX_COMPILATION_CACHE_MAX_SIZE": str(2 << 30),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        for number in range(options.starts):
            before = {path.name for path in programs.glob("*-cache")}
            taken = start(arguments, Path(folder, f"run-{number}"), environment, options.whole)
            added = sorted({path.name for path in programs.glob("*-cache")} - before)
            found.append(taken | {"compiled": len(added), "names": [name.rsplit("-", 2)[0] for name in added]})
    if options.json:
        print(json.dumps(found))
        return
    for number, one in enumerate(found):
        seconds = {name.replace("_", " "): value for name, value in one.items() if type(value) is float}
        stages = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
        named = f" ({', '.join(one['names'])})" if number and one["names"] else ""
        print(f"start {number + 1}: {stages}; {one['compiled']} programs compiled{named}")


if __name__ == "__main__":
    main()
