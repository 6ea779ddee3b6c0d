"""python -m bertjax.benchmark NAME --config=FILE [--json] [--config.KEY=VALUE ...]

Measures how fast a config runs on this machine, phase by phase. The corpus is prepared first where it is not.

  --json            one JSON object instead of lines; progress goes to standard error

NAME is one of"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from bertjax.benchmarking.registry import BENCHMARKS, help_text
from bertjax.cli.command import guarded, printing
from bertjax.cli.flags import config_command
from bertjax.cli.showing import note, say
from bertjax.config import RunConfig, resolve

_JSON = {"json": (False, "JSON output")}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    own = BENCHMARKS[argv[0]].options if argv and argv[0] in BENCHMARKS else {}

    def run(config: Any, chosen: dict[str, Any], name: str) -> int:
        return printing(lambda: guarded(lambda: _run(name, resolve(config), chosen)))

    return config_command(
        "bertjax.benchmark", argv, help_text(__doc__ or ""), RunConfig, {**own, **_JSON}, run, BENCHMARKS
    )


def _run(name: str, run: RunConfig, options: Mapping[str, Any]) -> None:
    benchmark, as_json = BENCHMARKS[name].load(), options["json"]
    measured = benchmark.measure(run, options, note if as_json else say)  # standard output holds JSON alone
    if as_json:
        print(json.dumps({"benchmark": name, "config": run.name, **measured}, indent=2))
        return
    for line in benchmark.lines(measured):
        say(line)


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("benchmark")
