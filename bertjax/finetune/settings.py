"""What a fine-tuning run is: its config, checked and frozen, and the trials it consists of."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from bertjax.config import CheckpointConfig, GuardConfig, LoggingConfig, ParallelConfig, UpdateConfig
from bertjax.keys import ConfigError, build, flatten, identity, operational, section

# Kinds of tasks; those of ``bertjax.model.task``, which would import jax.
KINDS = ("classification", "multi_label", "regression", "tagging", "answering", "embedding")


@dataclass(frozen=True)
class EncoderConfig:
    """How the encoder is run; None: as its folder says."""

    path: str | None = operational(None)  # the model to start from; --model
    hidden_dropout_prob: float | None = identity(None, low=0.0, high=0.99)
    attention_probs_dropout_prob: float | None = identity(None, low=0.0, high=0.99)
    classifier_dropout: float | None = identity(None, low=0.0, high=0.99)  # None: hidden_dropout_prob
    # Tokens of a row, with special tokens. Longer texts are truncated, long sentences and contexts come in windows.
    max_length: int = identity(128, low=8)
    attention: str = operational("explicit", choices=("explicit", "dot_product"))
    scan_layers: bool | None = operational(None)  # None: unrolled where that saves more than it compiles longer
    recompute: str = operational("none", choices=("none", "layer", "all_but_products"))
    pooling: str = identity("mean", choices=("mean", "cls"))  # of embeddings
    # Of answering: tokens that two windows of a context share, and the longest answer.
    stride: int = identity(128, low=0)
    max_answer: int = identity(30, low=1)


@dataclass(frozen=True)
class DataConfig:
    """Labelled files, and what is where in them."""

    train: str | None = operational(None)  # --train
    eval: str | None = operational(None)  # --eval
    # Columns by name, or by number from 0; None: found from the header. Of CoNLL files text is the column of the word
    # (None: a header's "word", else the first), label that of the tag (None: the last); in .conllu files they have
    # names: form or lemma, and upos, xpos, feats or deprel.
    text: str | None = identity(None)
    second: str | None = identity(None)
    label: str | None = identity(None)
    separator: str = identity(",")  # between the labels of a text with several
    # What stands for no label: such texts are left out and counted. None: "-" in a column gold_label, as SNLI has it.
    # No identity, as the texts are.
    no_label: str | None = operational(None)
    # Texts of more tokens than the model has positions: truncated like those over max_length, or refused by file and
    # line. No identity: where the same data is not refused, both give the same rows.
    too_long: str = operational("truncate", choices=("truncate", "refuse"))
    # Of two classes: the one that F1, precision and recall are of; None: by the names, see ``tasks.positive_label``.
    positive_label: str | None = identity(None)
    labels: tuple[str, ...] | None = identity(None)  # by id; None: those of the training data, sorted


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast. A list, or values separated by commas, makes a trial of each combination."""

    epochs: tuple[int, ...] = identity((3,), low=1, high=10**6)
    learning_rate: tuple[float, ...] = identity((5e-5,), low=0.0)
    seed: tuple[int, ...] = identity((0,), low=0, high=2**31 - 1)
    batch_size: int = identity(32, low=1)  # examples a step, over all devices and parts
    warmup_fraction: float = identity(0.1, low=0.0, high=1.0)  # of all steps
    evaluate_every: int = identity(0, low=0)  # steps, besides the end of each epoch; 0: only there
    # The score (or "loss") that chooses the best checkpoint, the best trial, and ends training early; None: the first
    # score of the task.
    metric: str | None = identity(None)
    # After so many evaluations without a better ``metric`` training ends; 0: never.
    early_stopping: int = identity(0, low=0)
    # "balanced" (by one over the counts), or a number a label in their order; None: all alike.
    class_weights: str | None = identity(None)
    # A layer learns this much slower than the one above it, the embeddings slowest.
    layer_decay: float = identity(1.0, low=0.01, high=1.0)
    # The embeddings and so many of the first layers stay as they are; None: everything learns.
    frozen_layers: int | None = identity(None, low=0)
    temperature: float = identity(0.05, low=1e-4)  # of embeddings: what cosines are divided by
    # Of embeddings; None: "cosent" for pairs with scores, "contrastive" for pairs without.
    embedding_loss: str | None = identity(None, choices=("contrastive", "cosent"))


@dataclass(frozen=True)
class OptimizerConfig(UpdateConfig):
    # With bias correction: without it short runs on little data often fail (Mosbach et al. 2021).
    name: str = identity("adamw", choices=("bert2018", "adamw", "lamb"))


@dataclass(frozen=True)
class BestConfig(CheckpointConfig):
    keep: int = operational(1, low=1)
    keep_best: int = operational(1, low=1)  # by the main score; the best one becomes the model


@dataclass(frozen=True)
class FinetuneConfig:
    """Resolved; ``task`` is the kind."""

    name: str = operational("finetune")
    task: str = identity("classification", choices=KINDS)
    model: EncoderConfig = EncoderConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    checkpoint: BestConfig = BestConfig()
    guard: GuardConfig = field(default_factory=GuardConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    precision: str = identity("float32", choices=("float32", "bfloat16", "float16"))
    # On GPUs the same bits at every start: sums in a fixed order, no kernels chosen by their time. Slower there.
    deterministic: bool = operational(False)


@dataclass(frozen=True)
class Trial:
    """One run of a search."""

    learning_rate: float
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        return f"lr-{self.learning_rate}_epochs-{self.epochs}_seed-{self.seed}"


def default_config(task: str) -> ConfigDict:
    """A ConfigDict with every key at its default: what a config file starts from."""
    config = section(FinetuneConfig)
    config.task = config.name = task
    return config


def resolve(config: Any) -> FinetuneConfig:
    """Checks a ConfigDict (or nested dict) and returns it frozen. Raises ConfigError."""
    tree = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    run = build(FinetuneConfig, _renamed(tree), "config.")
    if run.model.attention == "dot_product" and run.model.attention_probs_dropout_prob != 0.0:
        raise ConfigError(
            "config.model.attention = 'dot_product' has no dropout on attention probabilities; set "
            "config.model.attention_probs_dropout_prob = 0.0"
        )
    sizes = (run.parallel.data, run.parallel.fsdp, run.parallel.tensor)
    if sizes.count(-1) > 1 or 0 in sizes:
        raise ConfigError("config.parallel: sizes are positive, and at most one of data, fsdp, tensor is -1")
    if run.task in ("answering", "embedding", "regression") and run.training.class_weights is not None:
        raise ConfigError(f"config.training.class_weights: {run.task} has no classes")
    if run.task != "classification" and run.data.positive_label is not None:
        raise ConfigError(f"config.data.positive_label: {run.task} has none; it is of classification with two labels")
    if run.task != "embedding" and run.training.embedding_loss is not None:
        raise ConfigError(f"config.training.embedding_loss: {run.task} is no embedding")
    training, several = run.training, {"data.labels": run.data.labels or ()}
    several |= {f"training.{name}": getattr(training, name) for name in ("epochs", "learning_rate", "seed")}
    for name, values in several.items():
        if len(set(values)) < len(values):
            raise ConfigError(f"config.{name} has a value twice: {', '.join(map(str, values))}")
    if not run.data.separator:
        raise ConfigError("config.data.separator is empty; give what stands between two labels")
    return run


def _renamed(tree: dict[str, Any]) -> dict[str, Any]:
    """The config with today's names for values that had others."""
    data = tree.get("data")
    if isinstance(data, dict) and data.get("too_long") == "cut":
        return tree | {"data": data | {"too_long": "truncate"}}
    return tree


def trials(run: FinetuneConfig) -> list[Trial]:
    """Every combination of learning rate, epochs and seed."""
    training = run.training
    return [Trial(*values) for values in itertools.product(training.learning_rate, training.epochs, training.seed)]


def of_trial(run: FinetuneConfig, trial: Trial) -> FinetuneConfig:
    """The config of one trial alone."""
    one = dataclasses.replace(
        run.training, learning_rate=(trial.learning_rate,), epochs=(trial.epochs,), seed=(trial.seed,)
    )
    return dataclasses.replace(run, training=one)


# Identity keys that runs before them had not, with the value at which a run is as it was then: there they are left out,
# so that a stored run goes on.
AS_BEFORE: dict[str, Any] = {}
# Identity keys of which the data decides where they are not set: see ``Family.decided``.
DECIDED_BY_DATA = ("data.positive_label", "training.metric", "training.embedding_loss")


def identity_items(run: FinetuneConfig, begins_with: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted name -> JSON value of all that must be the same on resume; ``begins_with``: fingerprints, and what the
    data decided, by name."""
    items = {name: value for name, (value, is_identity) in flatten(run).items() if is_identity}
    left_out = {name for name, value in AS_BEFORE.items() if items.get(name) == value} | {*DECIDED_BY_DATA}
    return {name: value for name, value in items.items() if name not in left_out} | dict(begins_with)


def to_dict(run: FinetuneConfig) -> dict[str, Any]:
    """The resolved config as plain JSON values, sections nested."""
    return json.loads(json.dumps(dataclasses.asdict(run)))
