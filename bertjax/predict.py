"""python -m bertjax.predict TASK --model=DIR [TEXT ...]: a model at work on text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from bertjax.command import DATA, USAGE, ArgumentParser, fail, guarded
from bertjax.config import ConfigError
from bertjax.inference.prediction_tasks import TASKS, Task, positive, refuse_beside_lines

_EPILOG = """\
DIR is a model folder in the Hugging Face layout, such as runs/tiny/model, or the workdir of a finished run.
Without TEXT, JSON lines are read from standard input, and one is written for each, in order: the line's own fields with
the results, which take the place of fields with their names. For text alone a line may be a string.

  python -m bertjax.predict fill-mask --model=runs/tiny "This function returns a [MASK] of strings."
  python -m bertjax.predict embed --model=runs/tiny --normalize < texts.jsonl > vectors.jsonl
  python -m bertjax.predict classify --model=runs/sst2 "A fine film." "A waste of time."
  python -m bertjax.predict tag --model=runs/ner "Ada Lovelace lived in London."
  python -m bertjax.predict answer --model=runs/squad --context="Ada lived in London." "Where did Ada live?"
  python -m bertjax.predict similarity --model=runs/tiny "A cat sat." "The cat was sitting."

Exit codes: 0 done; 2 usage; 3 the model's files cannot be used, or some lines could not be (they are answered by an
object with "line" and "error"; a line has at most 4 MiB)."""

_LOTS = 16  # batches that are sorted by length together


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = ArgumentParser("python -m bertjax.predict", "Puts a model to work on text.", _EPILOG)
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, task in TASKS.items():
        own: Any = tasks.add_parser(name, epilog=_EPILOG, help=task.help, description=f"A JSON line: {task.lines}")
        own.add_argument("--model", required=True, metavar="DIR", help="model folder or workdir")
        own.add_argument("--batch_size", type=positive, default=32, metavar="N", help="texts at once (default 32)")
        own.add_argument("texts", nargs="*", metavar="TEXT", help="text; without any, JSON lines on standard input")
        if task.show:
            own.add_argument("--json", action="store_true", help="JSON lines for TEXT arguments, too")
        task.arguments(own)
    return parser.run(argv, _run)


def _run(options: argparse.Namespace) -> int:
    if not options.texts and (sys.stdin is None or sys.stdin.isatty()):
        return fail("no TEXT; give one, or JSON lines on standard input", USAGE)
    failed: list[int] = []
    code = guarded(lambda: failed.append(_predict(options)))
    if code == 0 and failed[0]:
        return fail(f'{failed[0]} line{"s" * (failed[0] > 1)} could not be used; see the objects with "error"', DATA)
    return code


def _predict(options: argparse.Namespace) -> int:
    """Writes the answers; returns how many lines could not be used."""
    from bertjax.inference.json_lines import answered
    from bertjax.inference.unknown_texts import watched
    from bertjax.showing import note

    task = TASKS[options.task]
    values = task.values(options) if options.texts else []
    if not options.texts:
        refuse_beside_lines(options)
    model, tokenizer = task.load(options.model)
    work = watched(task.make_work(model, tokenizer, options), tokenizer, lambda line: note(f"warning: {line}"))
    if not options.texts:
        lines = _counted(_readable(sys.stdin.buffer))
        return _write(answered(lines, task.read, work, options.batch_size * _LOTS))
    results = _of_arguments(task, work, values)
    if task.show is None or options.json:
        return _write(results)
    for result in results:
        task.show(result)
    return 0


def _of_arguments(task: Task, work: Any, values: list[Any]) -> list[dict[str, Any]]:
    from bertjax.inference.json_lines import NOT_FINITE
    from bertjax.inference.strict_json import is_finite
    from bertjax.interop import ModelFileError

    try:
        records, items = zip(*map(task.read, values), strict=True)
        results = work(list(items))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not is_finite(results):
        raise ModelFileError(NOT_FINITE)
    return [record | result for record, result in zip(records, results, strict=True)]


def _write(answers: Iterable[dict[str, Any]]) -> int:
    from bertjax.inference.strict_json import written

    failed = 0
    for answer in answers:
        failed += "error" in answer
        print(written(answer, sys.stdout.encoding or "utf-8"))
    sys.stdout.flush()
    return failed


def _readable(stream: BinaryIO) -> Iterator[bytes]:
    from bertjax.data.files import DataError
    from bertjax.inference.json_lines import bounded_lines

    try:
        yield from bounded_lines(stream)
    except OSError as error:
        raise DataError(f"standard input cannot be read: {error.strerror or error}") from None


def _counted(lines: Iterable[bytes]) -> Iterable[bytes]:
    """The lines, with a count on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.completed:,} texts read"), TimeElapsedColumn()
    console, on_terminal = Console(stderr=True), sys.stderr.isatty()
    # By default rich takes over standard output, too, and would wrap the answers into the terminal.
    with Progress(*columns, console=console, disable=not on_terminal, redirect_stdout=False) as progress:
        task = progress.add_task("", total=None)
        for line in lines:
            yield line
            progress.advance(task)


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("predict")
