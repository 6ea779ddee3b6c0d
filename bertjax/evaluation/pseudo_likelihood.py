"""Pseudo-log-likelihood of sentences: the sum of the log probabilities of their tokens, each masked in turn.

Salazar, Liang, Nguyen and Kirchhoff 2020, "Masked Language Model Scoring", equation 1. A sentence of n tokens costs n
forward passes, so these are made cheap: rows of similar lengths are batched across sentences, and the vocabulary
product is computed at the masked position only.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from bertjax.cli.progress import ReportProgress
from bertjax.config import ModelConfig
from bertjax.inference.batches import ONE_DEVICE, Placement
from bertjax.inference.row_lengths import best_lengths
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.flops import train_flops_per_row
from bertjax.text.tokenizer import Tokenizer

SPECIAL_TOKENS = 2  # [CLS] and [SEP]
# About the FLOPs of a device while a program is compiled: another row length must save more of them in padding.
_FLOPS_OF_COMPILING = {"cpu": 2e11, "other": 1e14}


def pseudo_log_likelihoods(
    model: Bert,
    tokenizer: Tokenizer,
    sentences: Sequence[Sequence[int]],
    *,
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
    log_probs = np.zeros(len(rows), np.float64)
    pending: list[tuple[np.ndarray, jax.Array]] = []  # a batch is made while another is computed

    def fetch() -> None:
        chosen, values = pending.pop()
        log_probs[chosen] = placement.get(values)[: len(chosen)]

    done = 0
    worth = worth_a_shape(model.config) * placement.shards
    for chosen, length, size in rows.batches(batch_tokens, worth, placement.shards):
        batch, targets = rows.assemble(chosen, length, size)
        placed = placement.put(batch | {"targets": targets})
        values = _log_probs(graphdef, params, {name: placed[name] for name in batch}, placed["targets"])
        if pending:
            fetch()
        pending.append((chosen, values))
        done += len(chosen)
        show("masking each token in turn", done, len(rows))
    if pending:
        fetch()
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

        batch_tokens: for each of the ``shards``. worth: see ``best_lengths``.
        """
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

    def assemble(self, chosen: np.ndarray, length: int, size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The model's input, int32 [size, length], and the masked tokens, int32 [size]."""
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
        return {"input_ids": ids, "attention_mask": mask, "masked_lm_positions": positions}, targets

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over the rows of each sentence."""
        return np.add.reduceat(values, self._first) if len(values) else values


def worth_a_shape(config: ModelConfig) -> float:
    """Padding, in tokens, that costs as much as compiling the model for another shape."""
    length = 16
    forward = train_flops_per_row(config, length, 1) / 3  # of forward and backward pass
    return _FLOPS_OF_COMPILING.get(jax.default_backend(), _FLOPS_OF_COMPILING["other"]) * length / forward


@partial(jax.jit, static_argnums=0)
def _log_probs(graphdef: Any, params: Any, batch: Any, targets: jax.Array) -> jax.Array:
    """log p(target) at the masked position of each row: float32 [B]."""
    logits: Any = merge_params(graphdef, params)(**batch).mlm_logits
    at_target = jax.numpy.take_along_axis(logits[:, 0], targets[:, None], axis=-1)[:, 0]
    return at_target - jax.nn.logsumexp(logits[:, 0], axis=-1)
