"""What a pretraining run is: every config key with its meaning, default and limits.

``resolve`` turns a ``ConfigDict`` into frozen dataclasses. It raises ``ConfigError``, one line that says what is wrong
and what would be right, for an unknown key, a wrong type, a value out of range or an impossible combination.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from bertjax import config_schema as schema
from bertjax import config_sections as shared
from bertjax.attention_kernels import Demand, choose
from bertjax.config_schema import follows, identity, named_sections, nearest, not_a_key, operational, to_dict
from bertjax.config_sections import CheckpointConfig, GuardConfig, LoggingConfig, ParallelConfig, UpdateConfig
from bertjax.errors import ConfigError

__all__ = ["CheckpointConfig", "GuardConfig", "ParallelConfig", "UpdateConfig", "nearest", "to_dict"]  # also from here


@dataclass(frozen=True)
class ModelConfig:
    """The encoder. Names and meanings are those of Hugging Face's BertConfig."""

    vocab_size: int = follows(30522, "entries of the vocabulary; by default the tokenizer's", low=6, high=2**30)
    hidden_size: int = identity(768, "width of every layer", low=1, high=2**20)
    num_hidden_layers: int = identity(12, "number of layers", low=1, high=2**16)
    num_attention_heads: int = identity(12, "attention heads a layer; must divide hidden_size", low=1, high=2**20)
    intermediate_size: int = identity(3072, "width inside the MLP of a layer", low=1, high=2**24)
    hidden_act: str = identity(
        "gelu", "MLP activation; gelu: erf, as published; gelu_new: tanh", choices=("gelu", "gelu_new", "relu")
    )
    hidden_dropout_prob: float = identity(0.1, "dropout on embeddings and layer outputs", low=0.0, high=0.99)
    attention_probs_dropout_prob: float = identity(0.1, "dropout on attention probabilities", low=0.0, high=0.99)
    max_position_embeddings: int = identity(512, "longest row, in tokens", low=1, high=2**24)
    type_vocab_size: int = identity(2, "token types; 2 for sentences A and B", low=1, high=2**16)
    initializer_range: float = identity(0.02, "standard deviation of the initial weights", low=0.0)
    layer_norm_eps: float = identity(1e-12, "added to the variance in layer norms", low=0.0)
    position_embedding_type: str = identity(
        "absolute", "absolute: learned, as in 2018; sinusoidal: fixed", choices=("absolute", "sinusoidal")
    )
    attention: str = shared.attention_key()
    scan_layers: bool | None = operational(
        None, "true: compile one layer and run it for all; false: unroll them; by default as suits devices and depth"
    )
    layers_per_scan_step: int | None = operational(
        None, "layers that one step of the scan runs: more compile longer and move fewer bytes", low=1, high=2**16
    )
    remat: str = shared.remat_key()


@dataclass(frozen=True)
class DataConfig:
    """The corpus, and how training examples are made from it."""

    corpus: tuple[str, ...] = identity(("installed-docs",), "your text: files, globs, tfds:NAME, prepared folders")
    # This key and the next six belong to a prepared corpus and need not be set for one.
    tokenizer: str = follows("wordpiece", "wordpiece or sentencepiece, learned from the corpus; or a tokenizer's path")
    lowercase: bool = follows(True, "whether a learned vocabulary lowercases")
    strip_accents: bool | None = follows(
        None, "whether letters lose their accents; by default those of lowercased Latin or Greek text do", added=True
    )
    language: str | None = follows(
        None, "such as tr or de: which accented letters are letters of their own, how I is lowercased", added=True
    )
    character_coverage: float | None = follows(
        None, "share of characters learned; by default all, or 0.9995 of over 300", low=0.9, high=1.0, added=True
    )
    sentencepiece_type: str = follows("unigram", "algorithm of a learned sentencepiece", choices=("unigram", "bpe"))
    held_out_fraction: float = follows(0.02, "share of the documents kept for evaluation", low=0.0, high=0.5)
    # No ``choices``: a file of ``objectives/`` is an objective; ``registry.find_objective`` refuses other names.
    objective: str = identity("mlm_nsp", "mlm: masked words; mlm_nsp: and next sentences; mlm_sop: and sentence order")
    packing: bool = identity(True, "put several examples into a row; they do not see each other")
    max_examples_per_row: int = identity(16, "most examples packed into a row", low=1, high=64)
    masked_lm_prob: float = identity(0.15, "share of the tokens that are predicted", low=0.001, high=0.9)
    short_seq_prob: float = identity(0.1, "share of sentence pairs made shorter than the row", low=0.0, high=1.0)
    whole_word_masking: bool = identity(False, "mask all pieces of a word together")
    block_tokens: int = identity(8_000_000, "about so many tokens are shuffled and packed together", low=1)
    prefetch: int = operational(4, "batches made ahead of the step", low=0)


@dataclass(frozen=True)
class PhaseConfig:
    """A stage of the run whose rows have one length."""

    sequence_length: int = identity(128, "tokens a row", low=8)
    batch_size: int = identity(256, "rows a step, over all devices and accumulation steps", low=1)
    steps: int = identity(1000, "updates in this phase", low=0)
    max_predictions: int = follows(
        20, "most masked tokens a row; by default masked_lm_prob of the row: 20 of 128, 77 of 512", low=1
    )
    # Not set in a later phase whose schedule began in an earlier one (optimizer.schedule_span = "run").
    learning_rate: float | None = identity(None, "peak learning rate of a schedule that starts here", low=0.0)
    warmup_steps: int | None = identity(None, "updates in which it rises to the peak", low=0)


@dataclass(frozen=True)
class OptimizerConfig(UpdateConfig):
    """The update rule and the learning rate, over one phase or all."""

    schedule_span: str = identity(
        "run", "run: one schedule over all phases, as in 2018; phase: one for each", choices=("run", "phase")
    )


@dataclass(frozen=True)
class SuiteConfig:
    """A suite of ``bertjax.evaluate`` that runs during pretraining if it has data."""

    data: str | None = operational(None, "file to score")
    every_steps: int = operational(0, "steps between two runs, besides the end of each phase; 0: only there", low=0)
    limit: int = operational(0, "most examples; 0: all", low=0)


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation on held-out text."""

    every_steps: int = operational(0, "steps between evaluations, besides the end of each phase; 0: only there", low=0)
    max_rows: int = operational(2048, "most rows of held-out text", low=1)
    mlm: SuiteConfig = SuiteConfig()
    blimp: SuiteConfig = SuiteConfig()
    sts: SuiteConfig = SuiteConfig()


@dataclass(frozen=True)
class RunConfig:
    """A pretraining run; its phases run in the order in which the config names them."""

    name: str = operational("run", "names the default workdir, runs/NAME")
    init_from: str | None = identity(None, "model folder or workdir to start from; by default new weights")
    precision: str = shared.precision_key("bfloat16", "auto", "fp8")
    deterministic: bool = shared.deterministic_key()
    seed: int = identity(0, "seed of the weights, the data order, masks and dropout", low=0, high=2**31 - 1)
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    phases: Mapping[str, PhaseConfig] = named_sections("phase1")
    optimizer: OptimizerConfig = OptimizerConfig()
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    evaluation: EvaluationConfig = EvaluationConfig()
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    # Names of the keys that are not set and follow something else, such as the corpus, which is opened later.
    unset: frozenset[str] = not_a_key(frozenset())

    @property
    def total_steps(self) -> int:
        return sum(phase.steps for phase in self.phases.values())

    def phase_at(self, step: int) -> int:
        """Index of the phase that update number ``step`` (0-based) belongs to; the last one beyond the end."""
        return sum(step >= self.phase_start(index) for index in range(1, len(self.phases)))

    def phase_start(self, index: int) -> int:
        return sum(phase.steps for phase in list(self.phases.values())[:index])


def default_config() -> ConfigDict:
    """A ConfigDict with every section and key at its default, and no phases: what a config file starts from."""
    config = schema.section(RunConfig)
    config.phases = ConfigDict(sort_keys=False)  # in the order in which they are set and run
    return config


def phase(**values: Any) -> ConfigDict:
    config = schema.section(PhaseConfig)
    config.update(values)
    return config


def resolve(config: Any) -> RunConfig:
    """Checks a ConfigDict (or nested dict) and returns it frozen. Raises ConfigError."""
    run, tree = schema.read(RunConfig, config)
    unset, phases = schema.not_set(run, tree), dict(run.phases)
    for name, phase in phases.items():
        if f"phases.{name}.max_predictions" in unset:
            most = most_predictions(run.data.masked_lm_prob, phase.sequence_length)
            phases[name] = dataclasses.replace(phase, max_predictions=most)
    run = dataclasses.replace(run, unset=unset, phases=phases)
    _check_combinations(run)
    return run


def most_predictions(masked_lm_prob: float, length: int) -> int:
    """Masked positions that a row of so many tokens needs at most: 20 of 128 and 77 of 512 at a probability of 0.15."""
    return max(1, math.ceil(round(masked_lm_prob * length, 6)))  # 0.1 * 30 is a little over 3


def resolve_model(values: Mapping[str, Any], path: str = "") -> ModelConfig:
    """A model's config alone, checked; ``path`` stands before the keys' names in errors. Raises ConfigError."""
    optional = {f.name for f in dataclasses.fields(ModelConfig) if f.default is None}
    for name in (name for name, value in values.items() if value is None and name not in optional):
        raise ConfigError(f"{path}{name} is None; it must have a value")
    model = schema.build(ModelConfig, values, path)
    _check_model(model, path)
    return model


def with_values(run: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The run with other values of keys, by dotted name; these then count as set. Raises ConfigError."""
    tree = to_dict(run)
    for name, value in values.items():
        section, _, key = name.rpartition(".")
        parts = ["phases", section.removeprefix("phases.")] if section.startswith("phases.") else section.split(".")
        functools.reduce(dict.__getitem__, filter(None, parts), tree)[key] = value
    return dataclasses.replace(resolve(tree), unset=run.unset - set(values))


def identity_items(run: RunConfig) -> dict[str, Any]:
    return schema.identity_values(run) | {"phases": list(run.phases)}


def identity_fingerprint(run: RunConfig) -> str:
    return schema.fingerprint(identity_items(run))


def _check_model(model: ModelConfig, path: str) -> None:
    hidden, heads = model.hidden_size, model.num_attention_heads
    if hidden % heads:
        near = next(n for n in range(min(heads, hidden), 0, -1) if hidden % n == 0)
        raise ConfigError(f"{path}num_attention_heads = {heads} must divide {path}hidden_size = {hidden}; {near} would")
    choose(model.attention, Demand(model.attention_probs_dropout_prob > 0, head_size=hidden // heads), path)
    if model.position_embedding_type == "sinusoidal" and model.hidden_size % 2:
        raise ConfigError(f"{path}position_embedding_type = 'sinusoidal' needs an even {path}hidden_size")


def _check_combinations(run: RunConfig) -> None:
    model, optimizer = run.model, run.optimizer
    _check_model(model, "config.model.")
    if run.total_steps > schema.LARGEST_INT:
        raise ConfigError(f"config.phases have {run.total_steps:,} steps; the most is {schema.LARGEST_INT:,}")
    if run.total_steps == 0:
        raise ConfigError("config.phases have no steps at all; set config.phases.<name>.steps")
    shared.check_mesh_sizes(run.parallel)
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
