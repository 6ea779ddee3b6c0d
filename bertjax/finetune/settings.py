"""What a fine-tuning run is: its config, checked and frozen, and the trials it consists of."""

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from bertjax import config_schema as schema
from bertjax import config_sections as shared
from bertjax.attention_kernels import Demand, choose
from bertjax.config_schema import identity, operational, to_dict
from bertjax.config_sections import CheckpointConfig, GuardConfig, LoggingConfig, ParallelConfig, UpdateConfig
from bertjax.errors import ConfigError

__all__ = ["to_dict"]  # also imported from here

# Kinds of tasks; those of ``bertjax.model.task``, which would import jax.
KINDS = ("classification", "multi_label", "regression", "tagging", "answering", "embedding")


def _dropout_key(meaning: str) -> Any:
    return identity(None, meaning, low=0.0, high=0.99)


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder that is fine-tuned, and how it is run."""

    path: str | None = operational(None, "the model to start from; --model")
    hidden_dropout_prob: float | None = _dropout_key("dropout on layer outputs; by default the model's")
    attention_probs_dropout_prob: float | None = _dropout_key("dropout on attention; by default the model's")
    classifier_dropout: float | None = _dropout_key("dropout before the task's head; by default hidden_dropout_prob")
    max_length: int = identity(128, "most tokens a row; texts are truncated, sentences and contexts windowed", low=8)
    attention: str = shared.attention_key()
    scan_layers: bool | None = operational(None, "run one compiled layer L times; by default but for long runs on CPUs")
    remat: str = shared.remat_key()
    pooling: str = identity("mean", "how an embedding is made from the tokens of a text", choices=("mean", "cls"))
    stride: int = identity(128, "tokens that two windows of a context share (answering)", low=0)
    max_answer: int = identity(30, "most tokens of an answer (answering)", low=1)


@dataclass(frozen=True)
class DataConfig:
    """Labelled files, and which column holds what: a name of the header, or a number from 0."""

    train: str | None = operational(None, "file to train on; --train")
    eval: str | None = operational(None, "file to evaluate on; --eval")
    text: str | None = identity(None, "column of the text; of the word in CoNLL files (by default the first)")
    second: str | None = identity(None, "column of the second text of a pair")
    # In .conllu files the columns have names: form or lemma; upos, xpos, feats or deprel.
    label: str | None = identity(None, "column of the label; of the tag in CoNLL files (by default the last)")
    separator: str = identity(",", "what stands between the labels of a text with several")
    # Not part of the identity, because the texts are.
    no_label: str | None = operational(None, "label of texts to leave out; by default - in a column gold_label (SNLI)")
    # Not part of the identity: data that is not refused gives the same rows either way.
    too_long: str = operational("truncate", "texts longer than the model's positions", choices=("truncate", "refuse"))
    positive_label: str | None = identity(
        None, "of two labels, the one that F1, precision and recall are of; by default decided from their names"
    )
    labels: tuple[str, ...] | None = identity(None, "all labels in the order of their ids; by default sorted")


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast. Several values of epochs, learning_rate or seed make a run of each combination."""

    epochs: tuple[int, ...] = identity((3,), "passes over the training data", low=1, high=10**6)
    learning_rate: tuple[float, ...] = identity((5e-5,), "peak learning rate", low=0.0)
    seed: tuple[int, ...] = identity((0,), "seed of new head, order of examples, dropout", low=0, high=2**31 - 1)
    batch_size: int = identity(32, "examples a step, over all devices and accumulation steps", low=1)
    warmup_fraction: float = identity(0.1, "share of steps before the learning rate is at its peak", low=0.0, high=1.0)
    evaluate_every: int = identity(0, "steps between evaluations, besides the end of each epoch; 0: only there", low=0)
    metric: str | None = identity(
        None, "score, or loss, that chooses the best checkpoint and trial; by default the task's first score"
    )
    early_stopping: int = identity(0, "end after so many evaluations without a better metric; 0: never", low=0)
    class_weights: str | None = identity(
        None, "weights of the classes in the loss: balanced (1 / count), or a number for each label in their order"
    )
    layer_decay: float = identity(
        1.0, "learning rate of a layer relative to the one above; the embeddings are the lowest", low=0.01, high=1.0
    )
    frozen_layers: int | None = identity(None, "do not train the embeddings and so many of the first layers", low=0)
    temperature: float = identity(0.05, "what cosines are divided by (embeddings)", low=1e-4)
    embedding_loss: str | None = identity(
        None,
        "loss of embeddings; by default cosent for pairs with scores, else contrastive",
        choices=("contrastive", "cosent"),
    )


@dataclass(frozen=True)
class OptimizerConfig(UpdateConfig):
    """The update rule and the shape of the learning rate."""

    # With bias correction: without it short runs on little data often fail (Mosbach et al. 2021).
    name: str = shared.update_rule_key("adamw")


@dataclass(frozen=True)
class BestConfig(CheckpointConfig):
    """When checkpoints are saved, and which are kept; the best one becomes the model."""

    keep: int = operational(1, "number of newest checkpoints to keep", low=1)
    keep_best: int = operational(1, "number of checkpoints with the best metric to keep", low=1)


@dataclass(frozen=True)
class FinetuneConfig:
    """A fine-tuning run."""

    name: str = operational("finetune", "names the default workdir, runs/NAME")
    task: str = identity("classification", "the kind of task", choices=KINDS)
    precision: str = shared.precision_key("float32")
    deterministic: bool = shared.deterministic_key()
    model: EncoderConfig = EncoderConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    checkpoint: BestConfig = BestConfig()
    guard: GuardConfig = field(default_factory=GuardConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)


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
    config = schema.section(FinetuneConfig)
    config.task = config.name = task
    return config


def resolve(config: Any) -> FinetuneConfig:
    """Checks a ConfigDict (or nested dict) and returns it frozen. Raises ConfigError."""
    run, _ = schema.read(FinetuneConfig, config)
    choose(run.model.attention, Demand(run.model.attention_probs_dropout_prob != 0.0), "config.model.")
    shared.check_mesh_sizes(run.parallel)
    if run.task in ("answering", "embedding", "regression") and run.training.class_weights is not None:
        raise ConfigError(f"config.training.class_weights: {run.task} has no classes")
    if run.task != "classification" and run.data.positive_label is not None:
        raise ConfigError(f"config.data.positive_label: {run.task} has none; only classification with two labels does")
    if run.task != "embedding" and run.training.embedding_loss is not None:
        raise ConfigError(f"config.training.embedding_loss is for embeddings, not for {run.task}")
    training, several = run.training, {"data.labels": run.data.labels or ()}
    several |= {f"training.{name}": getattr(training, name) for name in ("epochs", "learning_rate", "seed")}
    for name, values in several.items():
        if len(set(values)) < len(values):
            raise ConfigError(f"config.{name} has the same value twice: {', '.join(map(str, values))}")
    if not run.data.separator:
        raise ConfigError("config.data.separator is empty; set it to what stands between two labels")
    return run


def trials(run: FinetuneConfig) -> list[Trial]:
    """Every combination of learning rate, epochs and seed."""
    training = run.training
    return [Trial(*values) for values in itertools.product(training.learning_rate, training.epochs, training.seed)]


def of_trial(run: FinetuneConfig, trial: Trial) -> FinetuneConfig:
    """The config of one trial alone."""
    one = {name: (value,) for name, value in dataclasses.asdict(trial).items()}
    return dataclasses.replace(run, training=dataclasses.replace(run.training, **one))


# Identity keys that the data decides if they are not set; see ``TaskSetup.decided``.
DECIDED_BY_DATA = ("data.positive_label", "training.metric", "training.embedding_loss")


def identity_items(run: FinetuneConfig, begins_with: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted name -> JSON value of all that must be the same on resume; ``begins_with``: fingerprints, and what the
    data decided, by name."""
    chosen = schema.identity_values(run).items()
    return {name: value for name, value in chosen if name not in DECIDED_BY_DATA} | dict(begins_with)
