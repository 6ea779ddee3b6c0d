"""bertjax COMMAND ...: the same as python -m bertjax.COMMAND ..."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

from bertjax.command import USAGE, fail, run_as_process
from bertjax.config import nearest

COMMANDS = {
    "train": ("bertjax.train.__main__", "pretrain a model from a config"),
    "finetune": ("bertjax.finetune.__main__", "train a model for a task on labelled files"),
    "prepare": ("bertjax.prepare", "text to a tokenised corpus with its vocabulary"),
    "plan": ("bertjax.plan", "what a run would need on machines that are not there"),
    "evaluate": ("bertjax.evaluate", "scores of a model: held-out loss, BLiMP, text similarity"),
    "export": ("bertjax.export", "a checkpoint of a run as a Hugging Face folder"),
    "describe": ("bertjax.describe", "what a model folder, a checkpoint or a workdir holds"),
    "predict": ("bertjax.predict", "fill masks, make embeddings"),
    "walkthrough": ("bertjax.walkthrough", "every step of BERT on one sentence, with the formulas"),
    "benchmark": ("bertjax.benchmark", "measure the data pipeline and the train step"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print("bertjax COMMAND ...   (bertjax COMMAND --help tells more)\n")
        for name, (_, what) in COMMANDS.items():
            print(f"  {name:<10} {what}")
        return 0 if argv else USAGE
    if argv[0] not in COMMANDS:
        return fail(f"unknown command {argv[0]!r}; {nearest(argv[0], COMMANDS)}", USAGE)
    return importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:])


def script() -> NoReturn:
    """The console script."""
    run_as_process(main)


if __name__ == "__main__":
    script()
