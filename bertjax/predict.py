"""python -m bertjax.predict fill-mask|embed --model=DIR [TEXT ...]: a model at work on text."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from bertjax.command import DATA, USAGE, ArgumentParser, fail, guarded
from bertjax.config import ConfigError

_EPILOG = """\
DIR is a model folder in the Hugging Face layout, such as runs/tiny/model, or the workdir of a finished run.
Without TEXT, JSON lines are read from standard input - {"text": "..."}, other fields are kept, or "..." - and one is
written for each, in order.

  python -m bertjax.predict fill-mask --model=runs/tiny "This function returns a [MASK] of strings."
  python -m bertjax.predict embed --model=runs/tiny --normalize < texts.jsonl > vectors.jsonl

Exit codes: 0 done; 2 usage; 3 the model's files cannot be used, or some lines could not be (they are answered by an
object with "line" and "error")."""

_LOTS = 16  # batches that are sorted by length together


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = ArgumentParser("python -m bertjax.predict", "Puts a model to work on text.", _EPILOG)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--model", required=True, metavar="DIR", help="model folder or workdir")
    shared.add_argument("--batch_size", type=_positive, default=32, metavar="N", help="texts at once (default 32)")
    shared.add_argument("texts", nargs="*", metavar="TEXT", help="text; without any, JSON lines on standard input")
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    settings: dict[str, Any] = {"parents": [shared], "epilog": _EPILOG}
    fill = tasks.add_parser("fill-mask", **settings, help="the most probable tokens for [MASK]")
    fill.add_argument("--top_k", type=_positive, default=5, metavar="K", help="tokens for each mask (default 5)")
    fill.add_argument("--json", action="store_true", help="JSON lines for TEXT arguments, too")
    vectors = tasks.add_parser("embed", **settings, help="a vector for each text, as JSON lines")
    vectors.add_argument("--pooling", choices=("mean", "cls"), default="mean", help="default mean")
    vectors.add_argument("--normalize", action="store_true", help="to length 1, so that products are cosines")
    vectors.add_argument("--max_length", type=_positive, metavar="N", help="tokens of a text that are looked at")
    return parser.run(argv, _run)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    if not options.texts and sys.stdin.isatty():
        return fail("no TEXT; give one, or JSON lines on standard input", USAGE)
    failed: list[int] = []
    code = guarded(lambda: failed.append(_predict(options)))
    if code == 0 and failed[0]:
        return fail(f'{failed[0]} line{"s" * (failed[0] > 1)} could not be used; see the objects with "error"', DATA)
    return code


def _predict(options: argparse.Namespace) -> int:
    """Writes the answers; returns how many lines could not be used."""
    from bertjax.inference.json_lines import answered
    from bertjax.interop.models import load_pair

    make_work, heads = TASKS[options.task]
    with warnings.catch_warnings(action="ignore"):  # of heads that the task does not look at
        model, tokenizer = load_pair(options.model, for_pretraining=bool(heads), required=heads)
    work = make_work(model, tokenizer, options)
    if not options.texts:
        lines = _counted(sys.stdin.buffer)
        return _write(answered(lines, work, options.batch_size * _LOTS))
    try:
        results = [{"text": text} | result for text, result in zip(options.texts, work(options.texts), strict=True)]
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if options.task == "embed" or options.json:
        return _write(results)
    for result in results:
        _show_fillings(result)
    return 0


def _write(answers: Iterable[dict[str, Any]]) -> int:
    failed = 0
    for answer in answers:
        failed += "error" in answer
        print(_json(answer))
    sys.stdout.flush()
    return failed


def _json(answer: dict[str, Any]) -> str:
    text = json.dumps(answer, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # an output that knows no such characters
        return json.dumps(answer)
    return text


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


def _fill_mask(model: Any, tokenizer: Any, options: argparse.Namespace) -> Callable[[list[str]], list[dict[str, Any]]]:
    from bertjax.inference.fill_mask import fill_mask

    if options.top_k > tokenizer.vocab_size:
        raise ConfigError(f"--top_k={options.top_k} is more than the {tokenizer.vocab_size} entries of the vocabulary")

    def work(texts: list[str]) -> list[dict[str, Any]]:
        answers = []
        for filled in fill_mask(model, tokenizer, texts, top_k=options.top_k, batch_size=options.batch_size):
            masks: Any = filled if isinstance(filled[0], list) else [filled]
            answers.append({"fillings": [[_rounded(dataclasses.asdict(f)) for f in mask] for mask in masks]})
        return answers

    return work


def _rounded(filling: dict[str, Any]) -> dict[str, Any]:
    return filling | {"score": float(f"{filling['score']:.6g}")}


def _embed(model: Any, tokenizer: Any, options: argparse.Namespace) -> Callable[[list[str]], list[dict[str, Any]]]:
    from bertjax.inference.embed import embed

    if options.max_length is not None and options.max_length < 5:
        raise ConfigError(f"--max_length={options.max_length} is too small; the least is 5")

    def work(texts: list[str]) -> list[dict[str, Any]]:
        vectors = embed(
            model,
            tokenizer,
            texts,
            pooling=options.pooling,
            normalize=options.normalize,
            batch_size=options.batch_size,
            max_length=options.max_length,
        )
        # Nine digits hold a float32 to its last bit.
        return [{"embedding": [float(f"{x:.9g}") for x in vector]} for vector in vectors]

    return work


def _show_fillings(result: dict[str, Any]) -> None:
    print(result["text"])
    for number, mask in enumerate(result["fillings"], start=1):
        if len(result["fillings"]) > 1:
            print(f"  mask {number}")
        width = max(len(filling["token"]) for filling in mask)
        for filling in mask:
            print(f"  {filling['score']:6.1%}  {filling['token']:<{width}}  {filling['text']}")


# What does the task, and the heads it needs.
TASKS = {"fill-mask": (_fill_mask, ("mlm_head",)), "embed": (_embed, ())}

if __name__ == "__main__":
    sys.exit(main())
