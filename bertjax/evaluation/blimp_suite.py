"""``blimp``: which of two sentences that differ in one thing is more probable, the acceptable one?

BLiMP, Warstadt et al. 2020. A pair is right if the good sentence scores strictly higher, as in the paper. A tie is
wrong, since half a point for it would reward tokenizers that lose the difference. Ties are counted.

The score is the pseudo-log-likelihood: the sum of the log probabilities of a sentence's tokens, each masked in turn
(Salazar, Liang, Nguyen and Kirchhoff 2020, "Masked Language Model Scoring", equation 1). A sentence of n tokens costs n
forward passes, so these are made cheap: rows of similar lengths are batched across sentences, and the vocabulary
product is computed at the masked position only.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bertjax.cli.paths import given_path
from bertjax.cli.progress import ReportProgress
from bertjax.config import ModelConfig
from bertjax.data.corpus.files import ending
from bertjax.errors import ConfigError, DataError
from bertjax.evaluation.suite import Options, Read, Result, check_fits, measured, origin_of
from bertjax.inference.batches import ONE_DEVICE, Placement
from bertjax.inference.row_lengths import best_lengths
from bertjax.interop.models import load_pair
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.flops import train_flops_per_row
from bertjax.tasks.examples import check_text
from bertjax.tasks.records import json_objects
from bertjax.text.coverage import unknown_warning
from bertjax.text.tokenizer import Tokenizer

OPTIONS = ("limit", "batch_tokens", "seed")
FORMATS = {"accuracy": ".2%"}
load = partial(load_pair, for_pretraining=True, required=("mlm_head",))
SENTENCES = ("sentence_good", "sentence_bad")
GROUPS = ("field", "linguistics_term", "UID")  # coarse to fine; ``limit`` counts in the last, the phenomenon
SPECIAL_TOKENS = 2  # [CLS] and [SEP]
# About the FLOPs of a device while a program is compiled: another row length must save more of them in padding.
_FLOPS_OF_COMPILING = {"cpu": 2e11, "other": 1e14}


@dataclass(frozen=True)
class MinimalPair:
    """good, bad: token ids without special tokens. groups: those of ``GROUPS`` that the data has, in that order."""

    good: list[int]
    bad: list[int]
    groups: dict[str, str]


def read(data: Any, tokenizer: Tokenizer, model: Bert, options: Options) -> Read:
    """``MinimalPair`` s from a file or folder, or a list of mappings or of (good, bad); ``limit`` of each phenomenon.
    Raises DataError that names file and line."""
    check_fits(model, tokenizer, masked_lm=True)
    kept: list[tuple[str, Mapping[str, Any]]] = []
    seen: Counter[str] = Counter()
    groups: list[str] | None = None
    for where, record in _records(data):
        if groups is None:
            groups = [name for name in GROUPS if name in record]
        for name in (*SENTENCES, *groups):
            if name not in record:
                raise DataError(f"{where}: no field {name!r}; a pair has {', '.join((*SENTENCES, *groups))}")
            check_text(record[name], where, f"{name!r}")
        phenomenon = record.get(GROUPS[-1], "")
        seen[phenomenon] += 1
        if options.limit is None or seen[phenomenon] <= options.limit:
            kept.append((where, record))
    if not kept:
        raise DataError(f"{origin_of(data)}: it holds no pairs of sentences")
    sentences = [record[name] for _, record in kept for name in SENTENCES]
    _, line = unknown_warning(tokenizer, sentences, "the sentences")
    ids = tokenizer.encode_batch(sentences)
    pairs = []
    for index, (where, record) in enumerate(kept):
        good, bad = ids[2 * index : 2 * index + 2]
        for name, tokens in zip(SENTENCES, (good, bad), strict=True):
            if not tokens:
                raise DataError(f"{where}: {name!r} has no tokens")
            length, longest = len(tokens) + SPECIAL_TOKENS, model.config.max_position_embeddings
            if length > longest:
                raise DataError(
                    f"{where}: {name!r} has {length} tokens with [CLS] and [SEP]; the model takes {longest}"
                )
        pairs.append(MinimalPair(good, bad, {name: record[name] for name in groups or ()}))
    return pairs, [] if line is None else [line]


def score(
    model: Bert,
    tokenizer: Tokenizer,
    pairs: list[MinimalPair],
    options: Options,
    show: ReportProgress,
    placement: Placement = ONE_DEVICE,
) -> Result:
    """Accuracy on all pairs, and in every group."""
    sentences = [sentence for pair in pairs for sentence in (pair.good, pair.bad)]
    scores = pseudo_log_likelihoods(model, tokenizer, sentences, options.tokens_at_once, show, placement)
    good, bad = scores[::2], scores[1::2]
    right = (good > bad).astype(np.float64)
    accuracy = lambda chosen: measured(lambda right: {"accuracy": right.mean()}, [right[chosen]], options.seed)
    groups = {}
    for heading in pairs[0].groups:
        names = np.array([pair.groups[heading] for pair in pairs])
        groups[heading] = {str(name): accuracy(names == name)["accuracy"] for name in np.unique(names)}
    facts = {"pairs": len(pairs), "ties": int((good == bad).sum()), "masked_rows": sum(map(len, sentences))}
    return Result(accuracy(slice(None)), groups, facts)


def pseudo_log_likelihoods(
    model: Bert,
    tokenizer: Tokenizer,
    sentences: Sequence[Sequence[int]],
    batch_tokens: int,
    show: ReportProgress = lambda stage, done, total: None,
    placement: Placement = ONE_DEVICE,
) -> np.ndarray:
    """The sum of log p(token | all others) over the tokens of each sentence, in nats: float64 [n].

    sentences: ids without special tokens, at least one each, that fit the model with [CLS] and [SEP]. Equal ones are
    scored once, so that their scores are equal to the bit. batch_tokens: tokens, with padding, of a batch on each
    shard.
    """
    unique: dict[tuple[int, ...], int] = {}
    which = [unique.setdefault(tuple(sentence), len(unique)) for sentence in sentences]
    rows = MaskedRows(list(unique), tokenizer)
    graphdef, params = split_params(model)
    log_probs, done = np.zeros(len(rows), np.float64), 0
    planned = rows.batches(batch_tokens, worth_a_shape(model.config) * placement.shards, placement.shards)
    batches = ((chosen, rows.assemble(chosen, *shape)) for chosen, *shape in planned)
    for chosen, values in placement.results(partial(_log_probs, graphdef, params), batches):
        log_probs[chosen] = values[: len(chosen)]
        done += len(chosen)
        show("masking each token in turn", done, len(rows))
    return rows.sums(log_probs)[which]


class MaskedRows:
    """A row for each token of each sentence, with that token masked."""

    def __init__(self, sentences: Sequence[Sequence[int]], tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        sizes = np.array([len(sentence) for sentence in sentences], np.int64)
        self._tokens = np.array([token for sentence in sentences for token in sentence], np.int32)
        self._first = np.cumsum(sizes) - sizes  # place of a sentence's first token
        self._sentence = np.repeat(np.arange(len(sizes)), sizes)  # of a row, which masks the token of its number
        self._lengths = sizes[self._sentence] + SPECIAL_TOKENS

    def __len__(self) -> int:
        return len(self._tokens)

    def batches(self, batch_tokens: int, worth: float, shards: int = 1) -> Iterator[tuple[np.ndarray, int, int]]:
        """(numbers of rows, row length, rows of the batch), the shortest first; only the last batch is not full.
        batch_tokens: for each of the ``shards``. worth: see ``best_lengths``."""
        if not len(self):
            return
        order = np.argsort(self._lengths, kind="stable")
        lengths = best_lengths(self._lengths, int(self._lengths.max()), worth).tolist()
        shapes = [(length, max(1, batch_tokens // length) * shards) for length in lengths]
        ends = np.searchsorted(self._lengths[order], [length for length, _ in shapes], side="right")
        begin = 0
        while begin < len(order):
            # The first shape that can be filled; the rows that are left go with longer ones.
            filled = (s for s, end in zip(shapes, ends, strict=True) if end - begin >= s[1])
            length, size = next(filled, shapes[-1])
            yield order[begin : begin + size], length, size
            begin += size

    def assemble(self, chosen: np.ndarray, length: int, size: int) -> dict[str, np.ndarray]:
        """The model's input, int32 [size, length], with the masked tokens as ``targets``, int32 [size]."""
        tokenizer, rows = self._tokenizer, np.arange(len(chosen))
        lengths, first = self._lengths[chosen], self._first[self._sentence[chosen]]
        position = chosen - first + 1
        place = np.arange(length)
        ids = np.full((size, length), tokenizer.pad_id, np.int32)
        inside = (place[None, :] >= 1) & (place[None, :] < lengths[:, None] - 1)
        source = np.clip(first[:, None] + place[None, :] - 1, 0, len(self._tokens) - 1)
        ids[rows] = np.where(inside, self._tokens[source], tokenizer.pad_id)
        ids[rows, lengths - 1], ids[rows, 0] = tokenizer.sep_id, tokenizer.cls_id
        ids[rows, position] = tokenizer.mask_id
        mask, positions, targets = np.zeros_like(ids), np.zeros((size, 1), np.int32), np.zeros(size, np.int32)
        mask[:, 0] = 1  # rows beyond the end attend to something
        mask[rows] = place[None, :] < lengths[:, None]
        positions[rows, 0], targets[rows] = position, self._tokens[chosen]
        return {"input_ids": ids, "attention_mask": mask, "masked_lm_positions": positions, "targets": targets}

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over the rows of each sentence."""
        return np.add.reduceat(values, self._first) if len(values) else values


def worth_a_shape(config: ModelConfig) -> float:
    """Padding, in tokens, that costs as much as compiling the model for another shape."""
    length = 16
    forward = train_flops_per_row(config, length, 1) / 3  # of forward and backward pass
    return _FLOPS_OF_COMPILING.get(jax.default_backend(), _FLOPS_OF_COMPILING["other"]) * length / forward


@partial(jax.jit, static_argnums=0)
def _log_probs(graphdef: Any, params: Any, batch: dict[str, jax.Array]) -> jax.Array:
    """log p(target) at the masked position of each row: float32 [B]."""
    inputs = {name: field for name, field in batch.items() if name != "targets"}
    logits: Any = merge_params(graphdef, params)(**inputs).mlm_logits
    at_target = jax.numpy.take_along_axis(logits[:, 0], batch["targets"][:, None], axis=-1)[:, 0]
    return at_target - jax.nn.logsumexp(logits[:, 0], axis=-1)


def _records(data: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(data, str | Path):
        for path in _files(given_path(data, "data", DataError)):
            yield from ((f"{path}:{number}", record) for number, record in json_objects(path))
        return
    if not isinstance(data, Iterable):
        raise ConfigError(f"data must be a path or a list of pairs, not {type(data).__name__}")
    for index, pair in enumerate(data):
        if isinstance(pair, tuple | list) and len(pair) == 2:
            pair = dict(zip(SENTENCES, pair, strict=True))
        if not isinstance(pair, Mapping):
            raise DataError(f"data[{index}]: a pair is (good, bad) or a mapping with {' and '.join(SENTENCES)}")
        yield f"data[{index}]", pair


def _files(path: Path) -> list[Path]:
    """The file itself, or those of a folder: BLiMP is released with a file for each phenomenon."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if ending(file) == ".jsonl")
    if not files:
        raise DataError(f"{path} holds no .jsonl file")
    return files
