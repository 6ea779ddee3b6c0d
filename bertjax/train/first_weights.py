"""The first weights of a run that starts from a model folder or from another run (``config.init_from``)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from bertjax.cluster.processes import Processes
from bertjax.config import ModelConfig, RunConfig
from bertjax.config_schema import keys_of
from bertjax.errors import ConfigError
from bertjax.interop.huggingface import folder_path, open_folder
from bertjax.interop.models import fitted, new_parts, tokenizer_of
from bertjax.model.embeddings import padded_rows
from bertjax.model.heads import HEADS, heads_with, part_title
from bertjax.objectives.registry import find_objective
from bertjax.text.sentencepiece_tokenizer import SPACE_MARK
from bertjax.text.tokenizer import Tokenizer
from bertjax.workdir.stored_run import StoredRun, is_run, open_run

# Two models share the other identity keys, or the weights of one mean nothing in the other. Rows of the vocabulary and
# of the positions are fitted below.
_MAY_DIFFER = {
    "vocab_size",
    "max_position_embeddings",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
}
_BY_TOKEN = ("embeddings/word_embeddings", "mlm_head/bias")
_POSITIONS = "embeddings/position_embeddings"


@dataclass(frozen=True)
class Origin:
    """Where the first weights come from; nothing but headers is read before ``params`` is called."""

    path: Path
    config: ModelConfig
    tokenizer: Tokenizer | None
    params: Callable[[], dict[str, Any]]
    objective: str = "mlm_nsp"  # what its heads have learned


def open_origin(run: RunConfig, processes: Processes | None = None) -> Origin:
    """Opens ``run.init_from`` and checks that its model fits the config's; process 0 chooses the checkpoint of a run.
    Raises ModelFileError, ConfigError."""
    path, _ = folder_path(run.init_from or "")
    if is_run(path):
        stored = open_run(path)
        stored.check()  # before anything else is done
        weights = lambda: _told_weights(stored, processes or Processes())
        origin = Origin(path, stored.config.model, stored.tokenizer(), weights, stored.config.data.objective)
    else:
        folder = open_folder(path)
        tokenizer = tokenizer_of(path)
        folder = fitted(folder, tokenizer)
        origin = Origin(path, folder.config, tokenizer, folder.read)
    for name in (key.name for key in keys_of(ModelConfig) if key.metadata["identity"]):
        if name in _MAY_DIFFER:
            continue
        there, here = getattr(origin.config, name), getattr(run.model, name)
        if there != here:
            raise ConfigError(
                f"config.init_from: the model in {path} has {name} = {there!r}, config.model.{name} = {here!r}; "
                f"use --config.model.{name}={there}"
            )
    return origin


def _told_weights(stored: StoredRun, processes: Processes) -> dict[str, Any]:
    """The weights of the checkpoint that process 0 has read: the run may be saving and deleting."""
    step, params = stored.weights() if processes.first else (None, {})
    step = processes.share("checkpoint of config.init_from", step)
    return params if processes.first else stored.weights(step)[1]


def initial_params(origin: Origin, run: RunConfig, tokenizer: Tokenizer, say: Callable[[str], None]) -> dict[str, Any]:
    """The nested float32 parameters to start from, in the shapes of ``run.model``.

    Rows of the vocabulary are taken over by piece, so that an extended or reordered vocabulary keeps what is known;
    a new piece gets the mean of the known rows plus the usual random values. A longer position table repeats the
    known one, a shorter one is its beginning. Heads that the origin lacks are new. Raises ModelFileError, and
    ConfigError where the vocabularies cannot be compared.
    """
    objectives = [find_objective(name) for name in {origin.objective, run.data.objective}]
    heads = heads_with(find_objective(run.data.objective).logits)
    # Heads that the run does not have, or that mean something else under one objective than under another.
    other = set(HEADS) - set(heads)
    other |= {head for one in objectives for head in one.own_heads} if len(objectives) > 1 else set()
    params: dict[str, Any] = {part: values for part, values in origin.params().items() if part not in other}
    params = dict(flatten_dict(params, sep="/"))
    taken = _source_rows(origin, run.model, tokenizer)
    said = [f"first weights from {origin.path}: {_vocabulary_line(origin, run, tokenizer, int((taken >= 0).sum()))}"]
    for path in _BY_TOKEN:
        if path in params:
            params[path] = padded_rows(_by_token(np.asarray(params[path])[: origin.config.vocab_size], taken, run))
    if _POSITIONS in params:
        table, wanted = np.asarray(params[_POSITIONS]), run.model.max_position_embeddings
        params[_POSITIONS] = table[np.arange(wanted) % len(table)]
        if len(table) != wanted:
            said.append(f"{wanted} positions from its {len(table)}")
    params = unflatten_dict(params, sep="/")
    missing = [part for part in ("pooler", *heads) if part not in params]
    if missing:
        params |= new_parts(run.model, tuple(missing), run.seed)
        said.append("new: " + ", ".join(map(part_title, missing)))
    say("; ".join(said))
    return params


def _source_rows(origin: Origin, model: ModelConfig, tokenizer: Tokenizer) -> np.ndarray:
    """For every id of the run's vocabulary the row of the origin's that it takes, or -1; int64 [vocab_size]."""
    if origin.tokenizer is None:
        if origin.config.vocab_size != model.vocab_size:
            raise ConfigError(
                f"config.init_from: {origin.path} has {origin.config.vocab_size} vocabulary entries and no tokenizer "
                f"to tell which; config.model.vocab_size = {model.vocab_size} must be the same"
            )
        return np.arange(model.vocab_size)
    rows = np.full(model.vocab_size, -1, np.int64)
    there = {piece: i for i, piece in enumerate(_pieces(origin.tokenizer)) if i < origin.config.vocab_size}
    for token_id, piece in enumerate(_pieces(tokenizer)):
        rows[token_id] = there.get(piece, -1)
    for role, token_id in _special_ids(tokenizer).items():  # [CLS] here may be <s> there
        rows[token_id] = _special_ids(origin.tokenizer)[role]
    return rows


def _pieces(tokenizer: Tokenizer) -> list[tuple[bool, str]]:
    """Every piece as (continues a word, text without marks): what kinds of tokenizers have in common."""
    special, pieces = set(tokenizer.special_ids), []
    for token_id, continues in enumerate(tokenizer.continues_word()):
        text = tokenizer.token(token_id)
        if token_id not in special:
            text = text.removeprefix("##") if continues else text.removeprefix(SPACE_MARK)
        pieces.append((bool(continues), text))
    return pieces


def _vocabulary_line(origin: Origin, run: RunConfig, tokenizer: Tokenizer, known: int) -> str:
    if origin.tokenizer is None:
        return f"it has no tokenizer to compare with, so the {known:,} vocabulary entries are taken by their ids"
    line = f"{known:,} of {run.model.vocab_size:,} vocabulary entries known"
    for name in ("kind", "lowercase"):
        there, here = getattr(origin.tokenizer, name), getattr(tokenizer, name)
        if there != here:
            line += f" (its tokenizer has {name} = {there!r}, this one {here!r})"
    if tokenizer.fingerprint != origin.tokenizer.fingerprint:
        size = origin.tokenizer.vocab_size
        line += f" (to go on with its own: --config.data.tokenizer={origin.path} --config.model.vocab_size={size})"
    return line


def _special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    return {role: getattr(tokenizer, f"{role}_id") for role in ("pad", "unk", "cls", "sep", "mask")}


def _by_token(known: np.ndarray, taken: np.ndarray, run: RunConfig) -> np.ndarray:
    rows = known[np.maximum(taken, 0)]
    new = taken < 0
    if new.any():
        rows[new] = known.mean(axis=0)
        if rows.ndim == 2:
            size = (int(new.sum()), rows.shape[1])
            from scipy.stats import truncnorm  # slow to import, and needed here only

            noise: Any = truncnorm.rvs(-2, 2, scale=run.model.initializer_range, size=size, random_state=run.seed)
            rows[new] += noise.astype(np.float32)
    return rows
