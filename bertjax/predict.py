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

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

from bertjax.cli.command import ArgumentParser, guarded, number_in, whole_number
from bertjax.cli.json_text import dump, is_finite
from bertjax.cli.showing import note
from bertjax.errors import ConfigError, DataError, ModelFileError

_NORMALIZE = "to length 1, so that products are cosines; default as the model was made, else not"
_THRESHOLD = "probability over which a label is given, where a text may have several (default 0.5)"
_BATCHES_AT_ONCE = 16  # sorted by length together


def _positive(text: str) -> int:
    number = whole_number(text)
    if not number:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text[:40]!r}")
    return number


_ONE, _PAIR = '{"text": "..."}', '{"text": "...", "second": "..."}'
# Task -> (what it gives, its JSON lines).
_TASKS = {
    "fill-mask": ("the most probable tokens for [MASK]", _ONE),
    "embed": ("a vector for each text, as JSON lines", _ONE),
    "classify": ("a label, several labels, or a number for each text or pair", f"{_ONE} or {_PAIR}"),
    "tag": ("a tag for each word, and the entities that tags make", _ONE + ' or {"words": ["...", ...]}'),
    "answer": ("the answers to questions, as they stand in a context", '{"question": "...", "context": "..."}'),
    "similarity": ("how alike two texts are: a cosine, or the score of a model for pairs", _PAIR),
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = ArgumentParser("python -m bertjax.predict", __doc__)
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    add: dict[str, Callable[..., Any]] = {}
    for name, (gives, lines) in _TASKS.items():
        own: Any = tasks.add_parser(name, epilog=parser.epilog, help=gives, description=f"A JSON line: {lines}")
        add[name] = own.add_argument
        add[name]("--model", required=True, metavar="DIR", help="model folder or workdir")
        add[name]("--batch_size", type=_positive, default=32, metavar="N", help="texts at once (default 32)")
        add[name]("texts", nargs="*", metavar="TEXT", help="text; without any, JSON lines on standard input")
        if name != "embed":
            add[name]("--json", action="store_true", help="JSON lines for TEXT arguments, too")
    add["fill-mask"]("--top_k", type=_positive, default=5, metavar="K", help="tokens for each mask (default 5)")
    add["embed"]("--pooling", choices=("mean", "cls"), help="default: the model's own, else mean")
    add["embed"]("--normalize", action="store_true", default=None, help=_NORMALIZE)
    add["embed"]("--max_length", type=_positive, metavar="N", help="tokens of a text that are read")
    add["classify"]("--pairs", action="store_true", help="TEXTs are pairs: first, second, first, second, ...")
    add["classify"]("--threshold", type=number_in(0, 1), default=0.5, metavar="P", help=_THRESHOLD)
    add["answer"]("--context", metavar="TEXT", help="the text that holds the answers; each TEXT is a question")
    add["answer"]("--n_best", type=_positive, default=3, metavar="N", help="answers to each question (default 3)")
    return parser.run(argv, lambda options: guarded(lambda: _predict(options)))


def _predict(options: argparse.Namespace) -> None:
    """Prints the answers. Raises DataError if there are lines that could not be used."""
    if not options.texts and (sys.stdin is None or sys.stdin.isatty()):
        raise ConfigError("no TEXT; give one, or JSON lines on standard input")
    values = _values(options)
    # Only now, so that the command answers mistakes at once.
    from bertjax.inference.json_lines import NOT_FINITE, answered, bounded_lines
    from bertjax.inference.prediction_tasks import PREDICTION_TASKS

    task = PREDICTION_TASKS[options.task]
    work = task.open(options, lambda line: note(f"warning: {line}"))
    if not options.texts:
        lines = _counted(bounded_lines(sys.stdin.buffer))
        return _write(answered(lines, task.read, work, options.batch_size * _BATCHES_AT_ONCE))
    try:
        records, items = zip(*map(task.read, values), strict=True)
        results = work(list(items))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not is_finite(results):
        raise ModelFileError(NOT_FINITE)
    answers = [record | result for record, result in zip(records, results, strict=True)]
    if task.show is None or options.json:
        return _write(answers)
    for one in answers:
        task.show(one)
    return None


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


def _write(answers: Iterable[dict[str, Any]]) -> None:
    failed = 0
    for answer in answers:
        failed += "error" in answer
        print(dump(answer, sys.stdout.encoding or "utf-8"))
    sys.stdout.flush()
    if failed:
        raise DataError(f'{failed} line{"s" * (failed > 1)} could not be used; see the objects with "error"')


def _counted(lines: Iterable[bytes]) -> Iterable[bytes]:
    """The lines, with a count on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.completed:,} texts read"), TimeElapsedColumn()
    # By default rich takes over standard output, too, and would wrap the answers into the terminal.
    settings = {"console": Console(stderr=True), "disable": not sys.stderr.isatty(), "redirect_stdout": False}
    with Progress(*columns, **settings) as progress:
        yield from progress.track(lines)


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("predict")
