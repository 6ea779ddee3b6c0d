"""The faults that a run has to survive, each tried as often as its bar asks.

python tests/faults/catalogue.py [--only kill,sigterm,...] [--count N] [--seed S] [--folder DIR]

Prints a line a fault; exit code 1 where a bar is missed. Without --count each is tried as often as the table below
says, which takes some hours on two cores. Trial number I of seed S is the only one of seed S + I with --count 1.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from result import Result

# Name of the fault, the module whose FAULTS has its function, and how often it is tried.
TABLE = (
    ("kill", "kills", 100),
    ("sigterm", "signals", 30),
    ("sighup", "signals", 10),
    ("layouts", "layouts", 2),  # a run in each precision
    ("flip", "damage", 200),
    ("truncate", "damage", 200),
    ("missing", "damage", 1),  # rounds over all cases, as with the following two
    ("disk", "disk", 1),
    ("corpus", "corpora", 1),
    ("owners", "owners", 10),
    ("belongings", "belongings", 60),
    ("removed", "removed", 16),  # twice each of eight
    ("reader", "reader", 5),
    ("replaced", "replaced", 400),
    ("exports", "exports", 300),  # of which 20 by the command
    ("rollbacks", "rollbacks", 200),  # of which 20 by the command, 20 by two processes
    ("identity", "identity", 1),  # a round over all keys
    ("stranger", "strangers", 5),  # minutes
    ("soak", "soak", 30),  # starts of a minute
)


def function(name: str) -> Callable[[int, int], Result]:
    """The function that tries a fault: ``(count, seed) -> Result``."""
    module = next(module for known, module, _ in TABLE if known == name)
    return importlib.import_module(module).FAULTS[name]


def tried(name: str, count: int, seed: int) -> Result:
    """The result of a fault; one that could not be tried has failed."""
    try:
        return function(name)(count, seed)
    except Exception as error:
        traceback.print_exc()
        return Result(name, "it can be tried", count, [f"{type(error).__name__}: {error}"])


def lines(result: Result, seed: int, seconds: float) -> list[str]:
    """A result in words: a line, and one for every failure."""
    figures = ", ".join(f"{name} {value}" for name, value in result.figures.items())
    verdict = "ok" if result.ok else "FAILED"
    said = f"{verdict:<7}{result.name:<10} {result.tried - len(result.failures)} of {result.tried} held ({result.bar})"
    said += f"; {figures}" * bool(figures)
    return [f"{said}; seed {seed}, {seconds:.0f} s", *(f"       - {failure}" for failure in result.failures)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    names = [name for name, _, _ in TABLE]
    parser.add_argument("--only", help=f"names, separated by commas, of {', '.join(names)}")
    parser.add_argument("--count", type=int, help="how often each is tried")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where the runs lie; stays afterwards, with what was compiled and prepared")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else names
    if unknown := set(chosen) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}; allowed: {', '.join(names)}")
    sys.path.append(str(Path(__file__).parent.parent.parent))  # bertjax, where it is not installed
    if options.folder:
        os.environ["BERTJAX_FAULTS_DIR"] = options.folder
    missed = 0
    for name, _, count in TABLE:
        if name in chosen:
            began = time.monotonic()
            result = tried(name, options.count or count, options.seed)
            missed += not result.ok
            print(*lines(result, options.seed, time.monotonic() - began), sep="\n", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} bars held")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
