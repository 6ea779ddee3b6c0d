"""Writes a checkpoint of a run as a model folder in the Hugging Face layout.

Config, tokenizer and weights are proved to be those of the checkpoint by its record and checksums.
The folder loads with transformers.AutoModelForPreTraining, AutoModel and AutoTokenizer, and with
bertjax.load_model and load_tokenizer. It appears only when it has been read back and computes the same logits as the
checkpoint. A model that bertjax exported is replaced. Files that are somebody's own, or were changed since, ask for
--overwrite, which replaces the files of the model and leaves all others.

  python -m bertjax.export --workdir=runs/tiny --output=tiny-model
  python -m bertjax.export --workdir=runs/tiny --step=1000 --output=tiny-1000

Exit codes: 0 done; 2 usage; 3 the run's files cannot be used, or the folder cannot be written."""

import argparse

from bertjax.cli.command import ArgumentParser, guarded, integer
from bertjax.cli.showing import say


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = ArgumentParser("python -m bertjax.export", __doc__)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the workdir of the run")
    parser.add_argument(
        "--step",
        type=integer,
        metavar="N",
        help="the checkpoint; default the newest, or while the run trains the newest that is kept",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace model files that are not bertjax's own")
    return parser.run(argv, lambda options: guarded(lambda: _run(options)))


def _run(options: argparse.Namespace) -> None:
    from bertjax.interop.exported import check_replaceable
    from bertjax.interop.models import export_params
    from bertjax.objectives.registry import find_objective
    from bertjax.workdir.stored_run import open_run

    output = check_replaceable(options.output, options.overwrite)
    run = open_run(options.workdir)
    step, params = run.weights(options.step)
    without = find_objective(run.config.data.objective).own_heads
    export_params(output, run.config.model, params, run.tokenizer(), without=without, overwrite=options.overwrite)
    say(f"step {step} of {run.workdir} is in {output}; it was read back and computes the same")


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("export")
