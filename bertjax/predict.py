"""Puts a model to work on text.

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

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from bertjax.cli.command import ArgumentParser, fail, guarded
from bertjax.cli.digits import number_in, whole_number
from bertjax.cli.json_text import dump, is_finite
from bertjax.cli.showing import note
from bertjax.errors import DATA, USAGE, ConfigError

if TYPE_CHECKING:
    from bertjax.inference.prediction_tasks import PredictionTask

_NORMALIZE = "to length 1, so that products are cosines; default as the model was made, else not"
_THRESHOLD = "probability over which a label is given, where a text may have several (default 0.5)"
_BATCHES_AT_ONCE = 16  # that are sorted by length together


def _positive(text: str) -> int:
    number = whole_number(text)
    if not number:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text[:40]!r}")
    return number


def _option(help: str, metavar: str | None = None, **settings: Any) -> dict[str, Any]:
    return {"help": help, **({"metavar": metavar} if metavar else {}), **settings}


_ONE, _PAIR = '{"text": "..."}', '{"text": "...", "second": "..."}'
# Task -> (what it gives, its JSON lines, its options).
_TASKS: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    "fill-mask": (
        "the most probable tokens for [MASK]",
        _ONE,
        {"--top_k": _option("tokens for each mask (default 5)", "K", type=_positive, default=5)},
    ),
    "embed": (
        "a vector for each text, as JSON lines",
        _ONE,
        {
            "--pooling": _option("default: the model's own, else mean", choices=("mean", "cls")),
            "--normalize": _option(_NORMALIZE, action="store_true", default=None),
            "--max_length": _option("tokens of a text that are read", "N", type=_positive),
        },
    ),
    "classify": (
        "a label, several labels, or a number for each text or pair",
        f"{_ONE} or {_PAIR}",
        {
            "--pairs": _option("TEXTs are pairs: first, second, first, second, ...", action="store_true"),
            "--threshold": _option(_THRESHOLD, "P", type=number_in(0, 1), default=0.5),
        },
    ),
    "tag": ("a tag for each word, and the entities that tags make", _ONE + ' or {"words": ["...", ...]}', {}),
    "answer": (
        "the answers to questions, as they stand in a context",
        '{"question": "...", "context": "..."}',
        {
            "--context": _option("the text that holds the answers; each TEXT is a question", "TEXT"),
            "--n_best": _option("answers to each question (default 3)", "N", type=_positive, default=3),
        },
    ),
    "similarity": ("how alike two texts are: a cosine, or the score of a model for pairs", _PAIR, {}),
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = ArgumentParser("python -m bertjax.predict", __doc__)
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, (gives, lines, settings) in _TASKS.items():
        own: Any = tasks.add_parser(name, epilog=parser.epilog, help=gives, description=f"A JSON line: {lines}")
        own.add_argument("--model", required=True, metavar="DIR", help="model folder or workdir")
        own.add_argument("--batch_size", type=_positive, default=32, metavar="N", help="texts at once (default 32)")
        own.add_argument("texts", nargs="*", metavar="TEXT", help="text; without any, JSON lines on standard input")
        if name != "embed":
            own.add_argument("--json", action="store_true", help="JSON lines for TEXT arguments, too")
        for flag, setting in settings.items():
            own.add_argument(flag, **setting)
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
    values = _values(options)
    # Only now, so that the command answers mistakes at once.
    from bertjax.inference.json_lines import answered
    from bertjax.inference.prediction_tasks import PREDICTION_TASKS, warning_of_unknown

    task = PREDICTION_TASKS[options.task]
    model, tokenizer = task.load(options.model)
    work = task.make_work(model, tokenizer, options)
    work = warning_of_unknown(work, tokenizer, lambda line: note(f"warning: {line}"))
    if not options.texts:
        lines = _counted(_readable(sys.stdin.buffer))
        return _write(answered(lines, task.read, work, options.batch_size * _BATCHES_AT_ONCE))
    results = _of_arguments(task, work, values)
    if task.show is None or options.json:
        return _write(results)
    for result in results:
        task.show(result)
    return 0


def _values(options: argparse.Namespace) -> list[Any]:
    """The TEXTs, as JSON lines would have them. Raises ConfigError for options that do not go with them."""
    texts, are_pairs, context = options.texts, vars(options).get("pairs", False), vars(options).get("context")
    if not texts and are_pairs:
        raise ConfigError('--pairs is for TEXT arguments; a JSON line is a pair when it has a "second"')
    if not texts and context is not None:
        raise ConfigError('--context is for TEXT arguments; a JSON line holds its own "context"')
    if are_pairs or options.task == "similarity":
        if len(texts) % 2:
            option = "--pairs" if are_pairs else options.task
            raise ConfigError(f"{option} takes the texts two by two; {len(texts)} were given")
        return [texts[begin : begin + 2] for begin in range(0, len(texts), 2)]
    if options.task == "answer" and texts and context is None:
        raise ConfigError("--context=TEXT is needed beside questions")
    return [{"question": question, "context": context} for question in texts] if context is not None else texts


def _of_arguments(task: PredictionTask, work: Any, values: list[Any]) -> list[dict[str, Any]]:
    from bertjax.errors import ModelFileError
    from bertjax.inference.json_lines import NOT_FINITE

    try:
        records, items = zip(*map(task.read, values), strict=True)
        results = work(list(items))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not is_finite(results):
        raise ModelFileError(NOT_FINITE)
    return [record | result for record, result in zip(records, results, strict=True)]


def _write(answers: Iterable[dict[str, Any]]) -> int:
    failed = 0
    for answer in answers:
        failed += "error" in answer
        print(dump(answer, sys.stdout.encoding or "utf-8"))
    sys.stdout.flush()
    return failed


def _readable(stream: BinaryIO) -> Iterator[bytes]:
    from bertjax.errors import DataError
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
