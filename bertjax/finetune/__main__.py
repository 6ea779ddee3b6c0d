"""\
python -m bertjax.finetune --config=CONFIG --model=DIR --train=FILE --eval=FILE [--workdir=DIR] [--config.KEY=VALUE ...]

Fine-tunes an encoder for a task on labelled files, evaluates at the end of every epoch, and leaves the best model in
DIR/model in the Hugging Face layout, with the label map. A DIR that has a checkpoint is resumed.

  --config=CONFIG    finetune/classification, finetune/multi_label, finetune/regression (also similarity of pairs),
                     finetune/tagging, finetune/answering, finetune/embedding; finetune/demo, which needs no files;
                     or a Python file of yours with get_config()
  --model=DIR        a model folder in the Hugging Face layout, the workdir of a pretraining run (its newest
                     checkpoint while it goes on), or a checkpoint of one, WORKDIR/checkpoints/STEP
  --train, --eval    texts: .tsv .csv .jsonl; tags: CoNLL, .conllu; questions: SQuAD (.json, or
                     rows in .jsonl); all also .gz .xz .zst
  --config.KEY=VALUE overrides one key, for example
                       --config.data.text=review --config.data.label=stars     columns; by number without a header
                       --config.training.learning_rate=2e-5,5e-5               several values of learning_rate,
                       --config.training.seed=0,1,2                            epochs, seed: a run of each, with
                                                                               mean and spread
                       --config.training.layer_decay=0.9  --config.training.frozen_layers=4
                       --config.model.max_length=256  --config.precision=bfloat16
  --workdir=DIR      where the run lives; default runs/<config.name>
  --help             this text;  --help=config: every key with its meaning, default and limits

Several processes: the same command on each, as with bertjax.train; --coordinator=HOST:PORT, --num_processes=N,
--process_id=I and --bind=ADDRESS where they do not find each other.

Exit codes: 0 done; 2 usage, config or workdir; 3 labelled data or model files; 4 the run diverged; 71 another process
was lost - the same command goes on; 75 stopped by a signal with everything saved - the same command goes on."""

from bertjax.cli.flags import config_command
from bertjax.cluster.training_command import CLUSTER_OPTIONS, as_command
from bertjax.finetune import run
from bertjax.finetune.settings import FinetuneConfig


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    options = {
        "model": (None, "model folder, or workdir of a run"),
        "train": (None, "labelled file to train on"),
        "eval": (None, "labelled file to evaluate on"),
        "workdir": (None, "folder of the run"),
        **CLUSTER_OPTIONS,
    }
    return config_command("bertjax.finetune", argv, __doc__, FinetuneConfig, options, as_command(run))


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("finetune")
