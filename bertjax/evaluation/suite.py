"""What the suites share: options, scores with intervals, and checks of what they are given."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from bertjax.config import nearest
from bertjax.errors import ConfigError
from bertjax.model.bert import Bert
from bertjax.tasks.scores import COMPARED, SCORES, score_intervals

LEVEL = 0.95  # of the confidence intervals
SAMPLES = 1000  # drawn for each of them
_BATCH_TOKENS = {"cpu": 2048}  # what fills the cores and stays in their caches
_BATCH_TOKENS_OF_ACCELERATORS = 65536


# What a suite has read, and warnings about it, a line each.
Read = tuple[Any, Sequence[str]]


@dataclass(frozen=True)
class Options:
    """Each suite takes some of them (its ``OPTIONS``). limit: the most examples, counted as the suite says.
    max_length: tokens of a row or text. batch_tokens: tokens, with padding, that a device takes at once; results depend
    on it by rounding only. pooling: see ``bertjax.embed``. columns: names from the header or numbers from 0, separated
    by commas, for text, second text and label. seed: of masks and of the bootstrap."""

    limit: int | None = None
    max_length: int | None = None
    batch_tokens: int | None = None
    pooling: str = "mean"
    columns: str | None = None
    seed: int = 0

    @property
    def tokens_at_once(self) -> int:
        """``batch_tokens``, or what suits the device."""
        return self.batch_tokens or _BATCH_TOKENS.get(jax.default_backend(), _BATCH_TOKENS_OF_ACCELERATORS)


@dataclass(frozen=True)
class Score:
    """A value over ``count`` examples, with its bootstrap confidence interval."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Result:
    """scores: by name, the main one first. groups: heading -> group -> its main score. facts: other figures. details:
    what is too large for a table. warnings: a line each. undefined: scores without a value, which are not among
    ``scores``, with the reason."""

    scores: dict[str, Score]
    groups: dict[str, dict[str, Score]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    undefined: dict[str, str] = field(default_factory=dict)


def checked_options(name: str, allowed: Sequence[str], given: dict[str, Any]) -> Options:
    """The options of a suite, with defaults for None. Raises ConfigError that names the option."""
    given = {option: value for option, value in given.items() if value is not None}
    known = {f.name for f in dataclasses.fields(Options)}
    for option, value in given.items():
        if option not in allowed:
            why = f"the suite {name!r} has no such option" if option in known else "no such option"
            raise ConfigError(f"{option} = {value!r}: {why}; {nearest(option, allowed)}")
        least = 0 if option == "seed" else 1
        if option not in ("pooling", "columns") and (type(value) is not int or not least <= value < 2**31):
            raise ConfigError(f"{option} = {value!r} must be a whole number, {least} at least")
    return Options(**given)


def measured(function: Callable[..., Mapping[str, float]], arrays: Sequence[Any], seed: int) -> dict[str, Score]:
    """The scores ``function(*arrays)`` with intervals; examples, an entry of each array, are drawn together."""
    intervals = score_intervals(function, arrays, seed=seed, samples=SAMPLES, level=LEVEL)
    return {name: Score(float(value), *intervals[name], len(arrays[0])) for name, value in function(*arrays).items()}


def scored(
    kind: str, predictions: Any, labels: Any, names: Sequence[str], seed: int, **settings: Any
) -> dict[str, Score]:
    """The scores of a kind of task (``tasks.scores``) with their intervals. settings: ``positive`` of two classes."""
    found = measured(*COMPARED[kind](predictions, labels, names, **settings), seed)
    values = SCORES[kind](predictions, labels, names, **settings)
    return {name: dataclasses.replace(found[name], value=value) for name, value in values.items()}


def origin_of(data: Any) -> str:
    """How messages name the data of a suite."""
    return str(data) if isinstance(data, str | Path) else "data"


def column_names(columns: str | None, counts: Sequence[int], form: str) -> list[str]:
    """The columns in ``Options.columns``, [] for None. Raises ConfigError unless there are ``counts`` of them."""
    names = [] if columns is None else [name.strip() for name in columns.split(",")]
    if columns is not None and (len(names) not in counts or not all(names)):
        raise ConfigError(f"columns = {columns!r} must be {form}")
    return names


def check_fits(model: Any, tokenizer: Any, *, masked_lm: bool) -> None:
    """Raises ConfigError if model and tokenizer do not belong together, or the model lacks the head it needs."""
    if not isinstance(model, Bert):
        raise ConfigError(f"model must come from bertjax.load_model(path), not be a {type(model).__name__}")
    if masked_lm and "mlm_head" not in model.heads:
        raise ConfigError("model has no masked-LM head; make or load it with for_pretraining=True")
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ConfigError(f"tokenizer has {tokenizer.vocab_size} entries, model {model.config.vocab_size}")
