"""Scores a model on a suite.

DIR is a model folder in the Hugging Face layout, such as runs/tiny/model, or the workdir of a finished run.

  mlm    loss (nats), perplexity and accuracy on masked tokens of held-out text, 15 % of it, with masks that are
         always the same; beside them the loss of the unigram baseline on the same positions, and the gain over it.
         PATH: text (.txt, .jsonl, both also .gz .xz .zst; .parquet), or a folder that bertjax.prepare made, of which
         the held-out part is taken; without it, that of the run's own corpus, where DIR is a workdir.
         --limit counts rows of --max_length tokens (default 128).
  blimp  minimal pairs: how often the acceptable sentence has the higher pseudo-log-likelihood (each token masked in
         turn; a tie is wrong), by phenomenon and overall. PATH: a .jsonl file (also .gz .xz .zst) or a folder of them,
         an object a line: sentence_good, sentence_bad, and as groups field, linguistics_term, UID.
         --limit counts pairs of each UID.
  sts    cosines of the embeddings of two texts against human scores: Spearman and Pearson correlation, times 100.
         PATH: .csv, .tsv or .jsonl with two texts and a score. --limit counts pairs.
  task   a fine-tuned model on a labelled file, by the scores of its task: accuracy, F1, MCC, Pearson, exact match ...
         PATH: what bertjax.finetune takes: .csv, .tsv, .jsonl, CoNLL, .conllu, SQuAD (.json, .jsonl).
         --limit counts texts, sentences or questions.

Every score has a 95 % confidence interval, by bootstrap over rows or pairs.

  python -m bertjax.evaluate --model=runs/tiny --suite=mlm
  python -m bertjax.evaluate --model=runs/tiny --suite=blimp --data=blimp.jsonl.xz --limit=50
  python -m bertjax.evaluate --model=all-MiniLM-L6-v2 --suite=sts --data=stsb-en-test.csv --json
  python -m bertjax.evaluate --model=runs/sst2 --suite=task --data=sst2/dev.tsv --output=dev.json

Exit codes: 0 done; 2 usage; 3 the model's files or the data cannot be used."""

import argparse
import dataclasses
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from bertjax.cli.command import ArgumentParser, guarded, integer
from bertjax.cli.paths import given_path
from bertjax.cli.showing import note, plain
from bertjax.config import nearest
from bertjax.errors import ConfigError, ModelFileError
from bertjax.evaluation import SUITES, suite_named

PRECISIONS = ("float32", "bfloat16")


def run(
    model: Any, suite: str, data: Any = None, *, tokenizer: Any = None, precision: str | None = None, **options: Any
) -> dict[str, Any]:
    """Scores of a model on a suite: suite, model, data, scores, groups, facts, details, warnings, undefined, options,
    seconds - plain JSON.

    ``scores`` and the entries of ``groups[heading]`` are {"value", "low", "high", "count"}: a value with its 95 %
    bootstrap interval over ``count`` examples. Accuracies are fractions, losses nats, correlations times 100. Scores
    that mean nothing, such as the correlation with a constant, are in ``undefined``, with the reason.

    model: a path (model folder or workdir) or a model with its ``tokenizer``. suite: "mlm", "blimp", "sts", "task".
    data: a path, as for the command, or for mlm a list of texts, for blimp a list of (good, bad) or of mappings with
    sentence_good and sentence_bad, for sts a list of (text, text, score), for task (texts, labels), (sentences, tags)
    or a list of questions, as for ``bertjax.finetune.run``. precision: of a model that is loaded, "float32" (default)
    or "bfloat16". options: ``bertjax.evaluation.suite.Options``, those that the suite heeds.

    Raises ConfigError that names the argument, DataError that names file and line, ModelFileError.
    """
    import jax

    from bertjax.cli.progress import progress_bar
    from bertjax.evaluation.suite import checked_options
    from bertjax.model.precision import precision_named

    chosen = suite_named(suite)
    settings = checked_options(suite, chosen.OPTIONS, options)
    is_path = isinstance(model, str | Path)
    if is_path != (tokenizer is None):
        raise ConfigError("tokenizer goes with a model that is not a path, and only with one")
    if data is None and is_path and hasattr(chosen, "data_of"):
        data = chosen.data_of(model)
    if data is None:
        raise ConfigError(f"the suite {suite!r} needs --data=PATH; see --help for what it may be")
    if not is_path and precision is not None:
        raise ConfigError("precision is for a model that is loaded; a model in memory has its own")
    if precision not in (None, *PRECISIONS):
        raise ConfigError(f"precision = {precision!r}; {nearest(str(precision), PRECISIONS)}")
    origin = str(model) if is_path else None
    if is_path:
        with warnings.catch_warnings(action="ignore"):  # of heads that the suite does not use
            model, tokenizer = chosen.load(model)
        getattr(model, "bert", model).precision = precision_named(precision or "float32", jax.default_backend())
    began = time.monotonic()
    with progress_bar() as show:
        examples, notes = chosen.read(data, tokenizer, model, settings)
        result = chosen.score(model, tokenizer, examples, settings, show)
    if not result.scores:
        why = "; ".join(f"{name} is undefined, as {reason}" for name, reason in result.undefined.items())
        raise ModelFileError(f"{origin or 'model'}: it has no score: {why}")
    for name, score in result.scores.items():
        if not math.isfinite(score.value):
            raise ModelFileError(f"{origin or 'model'}: its {name} is {score.value}; its weights are of no use")
    return {
        "suite": suite,
        "model": origin,
        "data": str(data) if isinstance(data, str | Path) else None,
        **dataclasses.asdict(result) | {"warnings": [*notes, *result.warnings]},
        "options": {name: getattr(settings, name) for name in chosen.OPTIONS},
        "seconds": round(time.monotonic() - began, 3),
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = ArgumentParser("python -m bertjax.evaluate", __doc__)
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder or workdir")
    parser.add_argument("--suite", required=True, choices=SUITES, metavar="NAME", help=", ".join(SUITES))
    parser.add_argument("--data", metavar="PATH", help="what to score on")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--output", metavar="FILE", help="writes the JSON object to a file, too")
    parser.add_argument("--limit", type=integer, metavar="N", help="only so many examples")
    parser.add_argument("--max_length", type=integer, metavar="N", help="tokens of a row (mlm) or of a text (sts)")
    parser.add_argument(
        "--columns", metavar="A,B,C", help="sts, task: of text, text and label (of CoNLL: word,tag), by name or number"
    )
    parser.add_argument("--pooling", metavar="KIND", help="sts: mean (default) or cls")
    parser.add_argument("--seed", type=integer, metavar="N", help="of masks and of the bootstrap (default 0)")
    parser.add_argument("--precision", metavar="KIND", help="float32 (default) or bfloat16, quicker and a little off")
    parser.add_argument(
        "--batch_tokens", type=integer, metavar="N", help="tokens at once (default 2048; 65536 off CPUs)"
    )
    return parser.run(argv, lambda options: guarded(lambda: _run(options)))


def _run(options: argparse.Namespace) -> None:
    names = ("limit", "max_length", "columns", "pooling", "seed", "batch_tokens", "precision")
    given = {name: getattr(options, name) for name in names}
    output = None if options.output is None else given_path(options.output, "--output")
    if output is not None and not output.parent.is_dir():  # said before the work
        raise ConfigError(f"--output={options.output}: there is no folder {output.parent}")
    if output is not None and output.is_dir():
        raise ConfigError(f"--output={options.output} is a folder; it must be a file")
    result = run(options.model, options.suite, options.data, **given)
    for line in result["warnings"]:
        note(f"warning: {line}")
    if output is not None:
        from bertjax.workdir.config_json import write_json

        write_json(output, result)
    if options.json:
        from bertjax.cli.json_text import dump

        print(dump(result, sys.stdout.encoding or "utf-8", indent=2))
        return
    from rich.console import Console

    print_result(result, suite_named(options.suite).FORMATS, Console())


def print_result(result: dict[str, Any], formats: dict[str, str], console: Any) -> None:
    """Prints what ``run`` returned as a table, on rich's Console. formats: score name -> format of its numbers."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from bertjax.evaluation.suite import LEVEL
    from bertjax.tasks.scores import score_title

    # Few lines between the columns: the longest names of BLiMP fit into 80 characters.
    title = f"{result['suite']}: {result['model'] or 'model'} on {result['data'] or 'data in memory'}"
    table = Table("", box=SIMPLE, title=Text(plain(title)), title_justify="left", title_style="bold")
    for name in ("score", f"{LEVEL:.0%} interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    main, undefined = next(iter(result["scores"])), result.get("undefined", {})
    shown = lambda name: plain(score_title(name, result["facts"].get("positive_label")))

    def add_row(name: str, kind: str, score: dict[str, Any], style: str | None = None) -> None:
        value, low, high = (format(score[part], formats.get(kind, ".4f")) for part in ("value", "low", "high"))
        table.add_row(Text(name), value, f"{low} .. {high}", f"{score['count']:,}", style=style)

    for heading, groups in reversed(result["groups"].items()):  # the finest first, the whole last
        table.add_row(Text(plain(f"{main} by {heading.replace('_', ' ')}")), style="italic")
        for group, score in groups.items():
            add_row(plain(group), main, score)
        table.add_section()
    for name, score in result["scores"].items():
        add_row(shown(name), name, score, "bold")
    for name in undefined:
        table.add_row(Text(shown(name)), "undefined", "", "", style="bold")
    console.print(table)
    facts = result["facts"] | {"seconds": f"{result['seconds']:.1f}"}
    lines = [f"{shown(name)} is undefined: {reason}" for name, reason in undefined.items()]
    figures = (f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in facts.items())
    for line in [*lines, "  ".join(figures).replace("_", " ")]:
        console.print(plain(line), markup=False, highlight=False)


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("evaluate")
