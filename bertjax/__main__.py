"""bertjax COMMAND ...

``python -m bertjax.COMMAND ...`` runs ``script`` too, so that both are the same in every respect."""

import importlib
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from bertjax.cli.command import fail, run_as_process, show_help
from bertjax.compile_cache import keep_compiled_programs
from bertjax.config import nearest
from bertjax.errors import USAGE
from bertjax.memory import keep_memory


class Command(NamedTuple):
    """Where the ``main`` of a command is, what it is for, how its process is to treat memory, and whether it compiles
    programs for this machine."""

    module: str
    purpose: str
    compiles: bool = False
    set_heaps: Callable[[], None] = lambda: None


COMMANDS = {
    "train": Command("bertjax.train.__main__", "pretrain a model from a config", True, keep_memory),
    "finetune": Command("bertjax.finetune.__main__", "train a model for a task on labelled files", True, keep_memory),
    "prepare": Command("bertjax.prepare", "turn text into a tokenised corpus with its vocabulary"),
    "plan": Command("bertjax.plan", "what a run would need on machines that you do not have"),
    "evaluate": Command(
        "bertjax.evaluate", "score a model: held-out loss, BLiMP, text similarity, labelled files", True
    ),
    "export": Command("bertjax.export", "write a checkpoint of a run as a Hugging Face folder"),
    "describe": Command("bertjax.describe", "what a model folder, a checkpoint or a workdir holds"),
    "predict": Command("bertjax.predict", "fill masks, embed, classify, tag, answer questions, compare texts", True),
    "walkthrough": Command("bertjax.walkthrough", "every step of BERT on one sentence, with the formulas", True),
    "benchmark": Command(
        "bertjax.benchmark",
        "measure the train step, compiled or run, the data pipeline and the attention kernels",
        True,
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:<10} {command.purpose}" for name, command in COMMANDS.items()]
        head = "bertjax COMMAND ...   (bertjax COMMAND --help tells more)"
        return show_help("\n".join([head, "", *lines]), asked=bool(argv))
    if argv[0] not in COMMANDS:
        return fail(f"unknown command {argv[0]!r}; {nearest(argv[0], COMMANDS)}", USAGE)
    return importlib.import_module(COMMANDS[argv[0]].module).main(argv[1:])


def asks_for_help(argv: list[str]) -> bool:
    return any(argument in ("-h", "--help", "--help=config") for argument in argv)


def script(*before: str) -> NoReturn:
    """The process of a command: ``before`` and then the command line are its arguments."""
    argv = [*before, *sys.argv[1:]]
    if argv and argv[0] in COMMANDS:
        command = COMMANDS[argv[0]]
        command.set_heaps()
        if command.compiles and not asks_for_help(argv):
            keep_compiled_programs()
    run_as_process(lambda: main(argv))


if __name__ == "__main__":
    script()
