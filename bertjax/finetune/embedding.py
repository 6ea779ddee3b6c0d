"""Vectors of texts, from pairs that belong together; the other texts of the batch are what they do not belong to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertjax.data.files import DataError
from bertjax.finetune import objectives
from bertjax.finetune.batching import Rows
from bertjax.finetune.family import Family, Labelled, Outcome
from bertjax.finetune.fitting import Room, fitted_rows, room_of, truncated_notes
from bertjax.finetune.settings import FinetuneConfig
from bertjax.model.task import TaskConfig
from bertjax.tasks.examples import TextExample
from bertjax.tasks.scores import SCORES
from bertjax.text.tokenizer import Tokenizer

# First texts that are compared with all second ones at once.
_CHUNK = 1024


def embedding_family(run: FinetuneConfig, data: Labelled) -> Family:
    """Raises DataError for a text without a second one.

    Evaluation pairs with scores are scored by the correlation of their cosines; without, by how often the nearest of
    all second texts is the text's own.
    """
    task = TaskConfig("embedding", max_length=run.model.max_length, pooling=run.model.pooling)
    room = room_of(run, data)
    train, truncated = _rows(data.train, data.tokenizer, room)
    evaluation, truncated_there = _rows(data.eval, data.tokenizer, room)
    scores = [example.label for example in data.eval]

    def outcome(outputs: list[np.ndarray]) -> Outcome:
        vectors = np.stack(outputs).astype(np.float64)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        first, second = vectors[0::2], vectors[1::2]
        if None in scores:
            return Outcome(retrieval(first, second), dict)
        return Outcome(SCORES["embedding"]((first * second).sum(axis=1), np.array(scores)), dict)

    notes = truncated_notes(truncated, len(train), truncated_there, len(evaluation), room)
    if any(example.label is not None for example in data.train):
        notes.append("the scores of the training pairs are not used: every pair counts as belonging together")
    return Family(
        task,
        objectives.contrastive(run.training.temperature),
        ("accuracy",),
        train,
        evaluation,
        outcome,
        notes,
        per_example=2,
    )


def _rows(examples: Sequence[TextExample], tokenizer: Tokenizer, room: Room) -> tuple[Rows, int]:
    """Rows 2i and 2i + 1 are the texts of pair i; and how many were truncated."""
    texts = []
    for example in examples:
        if example.second is None:
            raise DataError(f"{example.where}: an embedding is learned from pairs; there is one text")
        texts += [example.text, example.second]
    places = [example.where for example in examples for _ in range(2)]
    return fitted_rows(texts, places, tokenizer, room)


def retrieval(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Of unit vectors [N, H]: ``accuracy``, how often second[i] is the nearest of all to first[i], and ``mrr``, the
    mean of one over its rank; of equals the own one comes last."""
    ranks = []
    for begin in range(0, len(first), _CHUNK):
        cosines = first[begin : begin + _CHUNK] @ second.T
        own = np.diagonal(cosines, begin)[:, None]
        ranks.append((cosines >= own).sum(axis=1))
    rank = np.concatenate(ranks)
    return {"accuracy": float((rank == 1).mean()), "mrr": float((1.0 / rank).mean())}
