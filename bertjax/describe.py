"""Says what a folder of bertjax holds.

PATH is one of
  a model folder           config.json and .safetensors files, under the names that are stored there
  WORKDIR/checkpoints/N    parameters, and the optimizer's state counted beside them
  WORKDIR                  the run: its phases or trials, checkpoints and scores, and the tensors of its model

Only headers are read, no weights; a checkpoint's are compared with its record, and so are the config and the tokenizer
of its run. A model that bertjax cannot load is described, too, with the reason.

Exit codes: 0 done; 2 usage; 3 there is nothing to describe, or its files are damaged."""

import argparse
import json

from bertjax.cli.command import ArgumentParser, guarded


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = ArgumentParser("python -m bertjax.describe", __doc__)
    parser.add_argument("path", metavar="PATH", help="model folder, checkpoint or workdir")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser.run(argv, lambda options: guarded(lambda: _run(options)))


def _run(options: argparse.Namespace) -> None:
    from bertjax.cli.json_text import nonfinite_as_words
    from bertjax.errors import ModelFileError
    from bertjax.workdir.description import describe, show

    found = describe(options.path)
    try:
        text = json.dumps(nonfinite_as_words(found), indent=2, allow_nan=False)
    except RecursionError:
        raise ModelFileError(f"{options.path}: its config is nested too deeply to be shown") from None
    if options.json:
        print(text)
    else:
        show(found)


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("describe")
