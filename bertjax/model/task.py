"""A model for a task: the encoder with one head, as in transformers; and how token vectors become a text's vector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct

from bertjax.config import ModelConfig
from bertjax.model.attention import SegmentIds
from bertjax.model.bert import Bert, evaluated
from bertjax.model.block import FIRST_LAYER_SITE, SITES_PER_LAYER
from bertjax.model.dropout import DropoutSeed, drop, dropout_at
from bertjax.model.layers import Linear
from bertjax.model.parameters import Maker, axis_sizes

# Kinds of tasks whose head reads the pooled output at [CLS]; the others read every position, or have no head.
POOLED = ("classification", "multi_label", "regression")
KINDS = (*POOLED, "tagging", "answering", "embedding")


def _mean(sequence: jax.Array, present: jax.Array | None) -> jax.Array:
    """The mean over the tokens, special ones included (Reimers and Gurevych 2019)."""
    wide = sequence.astype(jnp.float32)
    if present is None:
        return wide.mean(axis=1)
    weights = present.astype(jnp.float32)[:, :, None]
    return (wide * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1.0)


# ``(sequence_output [B, S, H], which of it are tokens [B, S], None: all) -> float32 [B, H]``
POOLINGS: dict[str, Callable[[jax.Array, jax.Array | None], jax.Array]] = {
    "mean": _mean,
    "cls": lambda sequence, present: sequence[:, 0].astype(jnp.float32),
}


@dataclass(frozen=True)
class TaskConfig:
    """What a model was fine-tuned for; kept with it, so that predictions read texts as training did.

    labels: names by id; ("score",) for regression, none for answering and embedding. max_length: most tokens of a row,
    with special tokens. classifier_dropout: before the head; None: hidden_dropout_prob. positive_label: which
    of two labels F1, precision and recall are for; None: chosen by the names. Embedding: pooling ("mean" or "cls");
    normalize scales to length 1. Answering: stride, tokens that two windows of a context share; max_question, tokens
    that a question is truncated to; max_answer, most tokens of an answer; null_threshold, how far the score of "no
    answer" must exceed that of the best answer to be given (None: always answer).
    """

    kind: str
    labels: tuple[str, ...] = ()
    max_length: int = 128
    classifier_dropout: float | None = None
    pooling: str = "mean"
    normalize: bool = False
    stride: int = 128
    max_question: int = 64
    max_answer: int = 30
    null_threshold: float | None = None
    positive_label: str | None = None

    @property
    def num_positions(self) -> int | None:
        """How many of a row's first positions the head reads; None: all."""
        return 1 if self.kind in POOLED or (self.kind == "embedding" and self.pooling == "cls") else None


@struct.dataclass
class TaskOutput:
    """logits, float32: [B, C] for classification, multi_label and regression, [B, S, C] for tagging, [B, S, 2] for
    answering (start, end). Embedding has embeddings instead: float32 [B, H], pooled, not normalised."""

    logits: jax.Array | None = None
    embeddings: jax.Array | None = None


class TaskModel(nnx.Module):
    """``bert`` with a ``Linear`` on it, ``classifier`` or ``qa_outputs``; without one for embedding. hooks:
    ``precision``, ``spec``, ``attend``, ``backend``, ``lookup``, ``constrain``, ``replicate`` of ``Bert``."""

    def __init__(self, config: ModelConfig, task: TaskConfig, rngs: nnx.Rngs, **hooks: Any):
        self.config = config
        self.task = task
        self.bert = Bert(config, rngs, heads=(), **hooks)
        outputs = 2 if task.kind == "answering" else len(task.labels)
        if task.kind != "embedding":
            make, name = Maker(axis_sizes(config), config.initializer_range, rngs), head_name(task.kind)
            setattr(self, name, Linear(make.sized(labels=outputs), "hidden", "labels", bert=name))

    def __call__(self, input_ids: Any, *, dropout_seed: DropoutSeed | None = None, **inputs: Any) -> TaskOutput:
        """inputs: token_type_ids, position_ids, example_ids, attention_mask as for ``Bert``; a row is one example.
        Raises ValueError that names the argument."""
        return evaluated(self, self.bert.checked(input_ids, **inputs) | {"dropout_seed": dropout_seed})

    def compute(self, segments: SegmentIds | None, dropout_seed: DropoutSeed | None, **inputs: Any) -> TaskOutput:
        """The forward pass on checked arguments; see ``__call__``."""
        kind, num_positions = self.task.kind, self.task.num_positions
        output = self.bert.compute(**inputs, segments=segments, dropout_seed=dropout_seed, num_positions=num_positions)
        sequence = output.sequence_output
        if kind == "embedding":
            return TaskOutput(embeddings=POOLINGS[self.task.pooling](sequence, segments and segments.key > 0))
        features = output.pooled_output if kind in POOLED else sequence
        if kind != "answering":  # transformers' BertForQuestionAnswering has no dropout before its head
            site = FIRST_LAYER_SITE + SITES_PER_LAYER * self.config.num_hidden_layers
            rate = self.task.classifier_dropout
            rate = self.config.hidden_dropout_prob if rate is None else rate
            features = drop(features, dropout_at(site, rate, dropout_seed))
        head = getattr(self, head_name(kind))
        return TaskOutput(logits=head(features, self.bert.precision).astype(jnp.float32))

    def on_batch(self, batch: Mapping[str, Any], dropout_seed: DropoutSeed | None = None) -> TaskOutput:
        """The outputs on a batch of ``bertjax.finetune.batching``: input_ids, token_type_ids, example_ids."""
        inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "example_ids")}
        return self(**inputs, dropout_seed=dropout_seed)


def head_name(kind: str) -> str:
    """The attribute that holds the head, and the first part of its parameters' paths."""
    return "qa_outputs" if kind == "answering" else "classifier"
