"""python -m bertjax.train --config=CONFIG [--workdir=DIR] [--config.KEY=VALUE ...]

Pretrains a BERT: prepares the corpus, trains all phases, evaluates on held-out text, and leaves the model in
DIR/model in the Hugging Face layout. A DIR that has a checkpoint is resumed.

  --config=CONFIG       tiny (two CPU cores), small (one GPU), base and large (BERT as published), or a Python file of
                        yours with get_config()
  --config.KEY=VALUE    overrides one key of it, for example
                          --config.data.corpus=PATH           your text: .txt, .jsonl, .parquet, also .gz .xz .zst, a
                                                              glob, tfds:NAME, or several separated by commas
                          --config.model.vocab_size=16384
                          --config.phases.phase1.steps=1000
                          --config.precision=float32
  --workdir=DIR         where the run lives; default runs/<config.name>
  --help                this text;  --help=config: every key with its meaning, default and limits

Several processes (a TPU pod, GPUs on several machines): the same command on each of them, on a workdir and a corpus
that all see. They find each other under TPU VMs, SLURM, Open MPI and Kubernetes JobSets (see launch/); else by

  --coordinator=HOST:PORT    where process 0 listens (PORT + 1 is used too)
  --num_processes=N  --process_id=I    how many there are, and which this is, from 0
  --bind=ADDRESS             address of process 0's machine to listen at; default: that of --coordinator

They know each other by a private file in the workdir, or by BERTJAX_CLUSTER_SECRET where a file cannot be private.

Exit codes: 0 done; 2 usage, config or workdir; 3 corpus; 4 the run diverged; 71 another process was lost or
stalled - the same command goes on from the last checkpoint; 75 stopped by a signal with everything saved - the
same command goes on."""

from bertjax.cli.flags import config_command
from bertjax.cluster.training_command import CLUSTER_OPTIONS, as_command
from bertjax.config import RunConfig
from bertjax.train import run


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    options = {"workdir": (None, "folder of the run"), **CLUSTER_OPTIONS}
    return config_command("bertjax.train", argv, __doc__, RunConfig, options, as_command(run))


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("train")
