"""What a run is: reads a ConfigDict, checks every key, freezes it, fingerprints it.

``resolve`` turns a ``ConfigDict`` into frozen dataclasses and raises ``ConfigError`` - one line that says what is
wrong and what would be right - for an unknown key, a wrong type, a value out of range or an impossible combination.

Every key is marked once: *identity* keys make the run what it is and must match on resume, *operational* keys
say how it is executed and may change from one start to the next.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from bertjax.keys import (
    LARGEST_INT,
    ConfigError,
    build,
    fingerprint,
    flatten,
    follows,
    identity,
    keys_of,
    named_sections,
    nearest,
    not_a_key,
    not_set,
    operational,
    section,
)

__all__ = ["ConfigError", "nearest"]  # imported from here by whoever deals with configs


@dataclass(frozen=True)
class ModelConfig:
    """The encoder; names and meanings of Hugging Face's BertConfig."""

    # Not set: that of the tokenizer given, or of the prepared corpus; 30522 are learned where there is neither.
    vocab_size: int = follows(30522, low=6, high=2**30)
    hidden_size: int = identity(768, low=1, high=2**20)
    num_hidden_layers: int = identity(12, low=1, high=2**16)
    num_attention_heads: int = identity(12, low=1, high=2**20)
    intermediate_size: int = identity(3072, low=1, high=2**24)
    # "gelu" is the erf form (what released weights are run with), "gelu_new" the tanh form of the 2018 code.
    hidden_act: str = identity("gelu", choices=("gelu", "gelu_new", "relu"))
    hidden_dropout_prob: float = identity(0.1, low=0.0, high=0.99)
    attention_probs_dropout_prob: float = identity(0.1, low=0.0, high=0.99)
    max_position_embeddings: int = identity(512, low=1, high=2**24)
    type_vocab_size: int = identity(2, low=1, high=2**16)
    initializer_range: float = identity(0.02, low=0.0)
    layer_norm_eps: float = identity(1e-12, low=0.0)
    # "absolute" (learned, as in 2018) or "sinusoidal" (fixed).
    position_embedding_type: str = identity("absolute", choices=("absolute", "sinusoidal"))
    # How attention is computed; "dot_product" has no dropout on attention probabilities.
    attention: str = operational("explicit", choices=("explicit", "dot_product"))
    # One compiled layer run L times (compiles fast) or L compiled layers.
    scan_layers: bool = operational(True)
    # What the backward pass computes again instead of keeping: nothing, all of a layer, or all but the products.
    recompute: str = operational("none", choices=("none", "layer", "all_but_products"))


@dataclass(frozen=True)
class DataConfig:
    """The corpus and how examples are made of it."""

    # One corpus SPEC or several, as a list or separated by commas (see ``python -m bertjax.prepare --help``).
    corpus: tuple[str, ...] = identity(("installed-docs",))
    # "wordpiece" or "sentencepiece" train a vocabulary of model.vocab_size on the corpus; else a path. This key and
    # the next six are those of a corpus that is prepared already, and need not be set for it.
    tokenizer: str = follows("wordpiece")
    lowercase: bool = follows(True)
    # Whether letters lose their marks. Not set: decided from the text that a vocabulary is learned on (where it is
    # lowercased, and Latin or Greek); a given tokenizer says it itself.
    strip_accents: bool | None = follows(None, added=True)
    # The code of the text's language, such as "tr": whether marked letters are letters of their own, and I that of ı.
    language: str | None = follows(None, added=True)
    # The share of characters in a vocabulary that is learned. Not set: all, but 0.9995 of an alphabet of over 300.
    character_coverage: float | None = follows(None, low=0.9, high=1.0, added=True)
    sentencepiece_type: str = follows("unigram", choices=("unigram", "bpe"))
    held_out_fraction: float = follows(0.02, low=0.0, high=0.5)
    objective: str = identity("mlm_nsp", choices=("mlm_nsp", "mlm"))
    packing: bool = identity(True)
    # Enough that short documents, and what a phase leaves of a block, still fill rows of 512.
    max_examples_per_row: int = identity(16, low=1, high=64)
    masked_lm_prob: float = identity(0.15, low=0.001, high=0.9)
    short_seq_prob: float = identity(0.1, low=0.0, high=1.0)
    # The pieces of a word, as the tokenizer's pre-tokenizer has it, are masked together.
    whole_word_masking: bool = identity(False)
    # Documents are planned and packed in blocks of about this many tokens.
    block_tokens: int = identity(8_000_000, low=1)
    # Batches made ahead of the step.
    prefetch: int = operational(4, low=0)


@dataclass(frozen=True)
class PhaseConfig:
    """One stretch of the run with rows of one length."""

    sequence_length: int = identity(128, low=8)
    batch_size: int = identity(256, low=1)  # rows, over all devices and accumulation steps
    steps: int = identity(1000, low=0)
    # Masked positions of a row at most. Not set: data.masked_lm_prob of sequence_length, 20 of 128 and 77 of 512.
    max_predictions: int = follows(20, low=1)
    # None in a later phase whose schedule began in an earlier one (optimizer.schedule_span = "run").
    learning_rate: float | None = identity(None, low=0.0)
    warmup_steps: int | None = identity(None, low=0)


@dataclass(frozen=True)
class UpdateConfig:
    """The update rule and the shape of the learning rate."""

    # "bert2018" is AdamW without bias correction; "adamw" has it; "lamb" adds a trust ratio a layer.
    name: str = identity("bert2018", choices=("bert2018", "adamw", "lamb"))
    beta1: float = identity(0.9, low=0.0, high=0.999999)
    beta2: float = identity(0.999, low=0.0, high=0.999999)
    eps: float = identity(1e-6, low=1e-30)
    weight_decay: float = identity(0.01, low=0.0)
    clip_norm: float = identity(1.0, low=0.0)  # global norm; 0 = off
    # After the warm-up: lr * (1 - progress) ** power, or constant.
    schedule: str = identity("polynomial", choices=("polynomial", "cosine", "constant"))
    power: float = identity(1.0, low=0.0)


@dataclass(frozen=True)
class OptimizerConfig(UpdateConfig):
    # "run": one schedule over all phases, as in 2018; "phase": each phase has its own, as in NVIDIA's recipe.
    schedule_span: str = identity("run", choices=("run", "phase"))


@dataclass(frozen=True)
class ParallelConfig:
    """Sizes of the mesh axes; -1 takes the devices that the others leave."""

    data: int = operational(-1, low=-1)
    fsdp: int = operational(1, low=-1)
    tensor: int = operational(1, low=-1)
    # Rows a device works on at once; more are done by accumulation. 0: worked out from the device's memory.
    rows_per_device: int = operational(0, low=0)
    # A process that does not move for so long, compiling and saving aside, ends the run; 0: never.
    watchdog_seconds: float = operational(600.0, low=0.0)


@dataclass(frozen=True)
class CheckpointConfig:
    every_steps: int = operational(1000, low=1)
    keep: int = operational(3, low=1)  # the last so many
    keep_every_steps: int = operational(0, low=0)  # and every so many steps one for good; 0: none
    keep_best: int = operational(0, low=0)  # and of each phase so many with the lowest held-out loss


@dataclass(frozen=True)
class GuardConfig:
    """Numbers that go wrong. A bad step is skipped: its update is not made, its batch is kept for inspection."""

    # A step is bad when it is not finite, when its gradient norm is over so many times the running mean,
    gradient_factor: float = operational(100.0, low=1.0)
    # or when its loss is so many nats over the running mean; of numbers to learn, times their variance.
    loss_rise: float = operational(3.0, low=0.0)
    # After so many bad steps in a row, or when the running mean itself rises by loss_rise over its lowest value, the
    # run goes back to its last checkpoint and on with the data after; the second time from there it ends.
    bad_steps: int = operational(3, low=1)


@dataclass(frozen=True)
class SuiteConfig:
    """A suite of ``bertjax.evaluate``, run where it has data: at the end of each phase, and every ``every_steps``."""

    data: str | None = operational(None)
    every_steps: int = operational(0, low=0)
    limit: int = operational(0, low=0)  # examples, as the suite counts them; 0: all


@dataclass(frozen=True)
class EvaluationConfig:
    """Held-out evaluation: at the end of each phase, and every ``every_steps`` where that is not 0."""

    every_steps: int = operational(0, low=0)
    max_rows: int = operational(2048, low=1)
    # Suites beside it, such as config.evaluation.blimp.data=blimp.jsonl; each comes with a held-out evaluation.
    mlm: SuiteConfig = SuiteConfig()
    blimp: SuiteConfig = SuiteConfig()
    sts: SuiteConfig = SuiteConfig()


@dataclass(frozen=True)
class LoggingConfig:
    every_steps: int = operational(10, low=1)
    tensorboard: bool = operational(True)


@dataclass(frozen=True)
class RunConfig:  # resolved; ``phases`` keeps the order of the config
    name: str = operational("run")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    phases: Mapping[str, PhaseConfig] = named_sections("phase1")
    optimizer: OptimizerConfig = OptimizerConfig()
    parallel: ParallelConfig = ParallelConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    logging: LoggingConfig = LoggingConfig()
    # Where the first weights come from: a model folder or the workdir of another run; None: new ones.
    init_from: str | None = identity(None)
    precision: str = identity("bfloat16", choices=("float32", "bfloat16", "float16"))
    # On GPUs the same bits at every start: sums in a fixed order, no kernels chosen by their time. Slower there.
    deterministic: bool = operational(False)
    seed: int = identity(0, low=0, high=2**31 - 1)
    # Names of keys that nobody has set and that follow something else, such as the corpus, which is opened later.
    unset: frozenset[str] = not_a_key(frozenset())

    @property
    def total_steps(self) -> int:
        return sum(phase.steps for phase in self.phases.values())

    def phase_at(self, step: int) -> int:
        """Index of the phase that update number ``step`` (0-based) belongs to; the last one beyond the end."""
        return sum(step >= self.phase_start(index) for index in range(1, len(self.phases)))

    def phase_start(self, index: int) -> int:
        """Number of updates done when phase ``index`` begins."""
        return sum(phase.steps for phase in list(self.phases.values())[:index])


def default_config() -> ConfigDict:
    """A ConfigDict with every section and key at its default, and no phases: what a config file starts from."""
    config = section(RunConfig)
    config.phases = ConfigDict(sort_keys=False)  # in the order in which they are set and run
    return config


def phase(**values: Any) -> ConfigDict:
    """A phase's section; keys that are not given have their defaults."""
    config = section(PhaseConfig)
    config.update(values)
    return config


def resolve(config: Any) -> RunConfig:
    """Checks a ConfigDict (or nested dict) and returns it frozen. Raises ConfigError."""
    tree = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    run = build(RunConfig, tree, "config.")
    run = _with_predictions(dataclasses.replace(run, unset=not_set(run, tree)))
    _check_combinations(run)
    return run


def most_predictions(masked_lm_prob: float, length: int) -> int:
    """Masked positions that a row of so many tokens needs at most: 20 of 128 and 77 of 512 at a probability of 0.15."""
    return max(1, math.ceil(round(masked_lm_prob * length, 6)))  # 0.1 * 30 is a little over 3


def _with_predictions(run: RunConfig) -> RunConfig:
    """The run with ``max_predictions`` in the phases that do not set it."""
    phases = dict(run.phases)
    for name, phase in phases.items():
        if f"phases.{name}.max_predictions" in run.unset:
            most = most_predictions(run.data.masked_lm_prob, phase.sequence_length)
            phases[name] = dataclasses.replace(phase, max_predictions=most)
    return dataclasses.replace(run, phases=phases)


def resolve_model(values: Mapping[str, Any], path: str = "") -> ModelConfig:
    """A model's config alone, checked; ``path`` stands before the keys' names in errors. Raises ConfigError."""
    for name in (name for name, value in values.items() if value is None):  # here there is nothing to follow
        raise ConfigError(f"{path}{name} is None; it must have a value")
    model = build(ModelConfig, values, path)
    _check_model(model, path)
    return model


def to_dict(run: RunConfig) -> dict[str, Any]:
    """The resolved config as plain JSON values, sections nested."""
    tree = {f.name: getattr(run, f.name) for f in keys_of(run)}
    return json.loads(json.dumps(tree, default=dataclasses.asdict))


def with_values(run: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The run with other values of keys, by dotted name; these then count as set. Raises ConfigError."""
    tree = to_dict(run)
    for name, value in values.items():
        section, _, key = name.rpartition(".")
        parts = ["phases", section.removeprefix("phases.")] if section.startswith("phases.") else section.split(".")
        functools.reduce(dict.__getitem__, filter(None, parts), tree)[key] = value
    return dataclasses.replace(resolve(tree), unset=run.unset - set(values))


def identity_items(run: RunConfig) -> dict[str, Any]:
    """Dotted name -> JSON value of every identity key; ``phases`` is their order."""
    keys = {name: value for name, (value, is_identity) in flatten(run).items() if is_identity}
    return keys | {"phases": list(run.phases)}


def identity_fingerprint(run: RunConfig) -> str:
    """Hex SHA-256 over the identity keys."""
    return fingerprint(identity_items(run))


def _check_model(model: ModelConfig, path: str) -> None:
    hidden, heads = model.hidden_size, model.num_attention_heads
    if hidden % heads:
        near = next(n for n in range(min(heads, hidden), 0, -1) if hidden % n == 0)
        raise ConfigError(f"{path}num_attention_heads = {heads} must divide {path}hidden_size = {hidden}; {near} would")
    if model.attention == "dot_product" and model.attention_probs_dropout_prob > 0:
        raise ConfigError(
            f"{path}attention = 'dot_product' has no dropout on attention probabilities; set "
            f"{path}attention_probs_dropout_prob = 0.0 or {path}attention = 'explicit'"
        )
    if model.position_embedding_type == "sinusoidal" and model.hidden_size % 2:
        raise ConfigError(f"{path}position_embedding_type = 'sinusoidal' needs an even {path}hidden_size")


def _check_combinations(run: RunConfig) -> None:
    model, optimizer = run.model, run.optimizer
    _check_model(model, "config.model.")
    if model.type_vocab_size < 2 and run.data.objective == "mlm_nsp":
        raise ConfigError("config.model.type_vocab_size must be 2 for config.data.objective = 'mlm_nsp'")
    if run.total_steps > LARGEST_INT:
        raise ConfigError(f"config.phases have {run.total_steps:,} steps; the most is {LARGEST_INT:,}")
    if run.total_steps == 0:
        raise ConfigError("config.phases have no steps at all; set config.phases.<name>.steps")
    sizes = (run.parallel.data, run.parallel.fsdp, run.parallel.tensor)
    if sizes.count(-1) > 1 or 0 in sizes:
        raise ConfigError("config.parallel: sizes are positive, and at most one of data, fsdp, tensor is -1")
    for index, (name, phase) in enumerate(run.phases.items()):
        where = f"config.phases.{name}"
        if phase.sequence_length > model.max_position_embeddings:
            raise ConfigError(
                f"{where}.sequence_length = {phase.sequence_length} is longer than the position table, "
                f"config.model.max_position_embeddings = {model.max_position_embeddings}"
            )
        if phase.max_predictions > phase.sequence_length:
            raise ConfigError(f"{where}.max_predictions is larger than {where}.sequence_length")
        own_schedule = index == 0 or optimizer.schedule_span == "phase"
        for key in ("learning_rate", "warmup_steps"):
            if own_schedule and getattr(phase, key) is None:
                raise ConfigError(f"{where}.{key} is not set")
            if not own_schedule and getattr(phase, key) is not None:
                span = "config.optimizer.schedule_span = 'run' has one schedule over all phases, set in the first"
                raise ConfigError(f"{where}.{key} is set, but {span}; remove it or use schedule_span = 'phase'")
