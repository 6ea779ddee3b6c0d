"""Vectors of texts, from pairs that belong together, or from pairs with scores that their cosines follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bertjax.errors import ConfigError, DataError
from bertjax.finetune.batching import Rows
from bertjax.finetune.embedding_losses import contrastive, cosent
from bertjax.finetune.fitting import room_of, truncated_notes
from bertjax.finetune.pairs import (
    Pairs,
    most_negatives,
    pair_cautions,
    pair_notes,
    pair_rows,
    refuse_constant,
    refuse_one_candidate,
    scores_of,
)
from bertjax.finetune.settings import FinetuneConfig
from bertjax.finetune.task_setup import Decided, Labelled, Outcome, TaskSetup
from bertjax.model.task import TaskConfig
from bertjax.tasks.retrieval import ranks, retrieval_scores
from bertjax.tasks.scores import SCORES
from bertjax.tasks.undefined_scores import undefined_scores

_LOSSES = {"contrastive": contrastive, "cosent": cosent}
_KEY = "config.training.embedding_loss"
_CONTRASTIVE = f"--{_KEY}=contrastive"
_NAMES = {"contrastive": "the contrastive one", "cosent": "CoSENT's"}
_USED = {
    "contrastive": f"the loss is the contrastive one: pairs belong together, the others of a batch do not ({_KEY})",
    "cosent": f"the loss is CoSENT's: the cosines of the pairs are to have the order of their scores ({_KEY})",
}


def embedding_family(run: FinetuneConfig, data: Labelled) -> TaskSetup:
    """Pairs with scores have the CoSENT loss, pairs without the contrastive one, unless the config says which.

    Evaluation pairs with scores are scored by the correlation of their cosines; without, by how often the nearest of
    all second texts and negatives is the text's own. Raises DataError, ConfigError.
    """
    task = TaskConfig("embedding", max_length=run.model.max_length, pooling=run.model.pooling)
    loss = _loss_of(run, data)
    scored = scores_of(data.eval) is not None
    eval_loss = "cosent" if scored and run.training.embedding_loss != "contrastive" else "contrastive"
    per_pair = 2 + max(
        most_negatives(data.train) if loss == "contrastive" else 0, 0 if scored else most_negatives(data.eval)
    )
    room = room_of(run, data)
    train = pair_rows(data.train, data.tokenizer, room, per_pair)
    evaluation = pair_rows(data.eval, data.tokenizer, room, per_pair)
    _refuse_what_tells_nothing(run, data, loss, train, evaluation)
    train_rows, eval_rows = _labelled(train, loss), _labelled(evaluation, eval_loss)

    def outcome(outputs: list[np.ndarray]) -> Outcome:
        vectors = np.stack(outputs).astype(np.float64)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        if evaluation.scores is None:
            return _retrieved(vectors, evaluation)
        cosines = (vectors[0::per_pair] * vectors[1::per_pair]).sum(axis=1)
        none = undefined_scores("embedding", cosines, evaluation.scores)
        return Outcome(SCORES["embedding"](cosines, evaluation.scores), dict, undefined=none)

    of_train, of_eval = (int((pairs.texts >= 0).sum()) for pairs in (train, evaluation))
    notes = [
        *truncated_notes(train.truncated, of_train, evaluation.truncated, of_eval, room),
        _USED[loss],
        *pair_notes(train, "training"),
        *pair_notes(evaluation, "evaluation"),
    ]
    if loss != eval_loss:
        notes.append(
            f"the loss of the evaluation pairs is {_NAMES[eval_loss]}, as they have {'a' if scored else 'no'} score"
        )
    if loss == "contrastive" and train.scores is not None:
        notes.append("the scores of the training pairs are not used")
    make = lambda name: _LOSSES[name](run.training.temperature, per_pair)
    return TaskSetup(
        task,
        make(loss),
        ("accuracy",) if loss == "contrastive" else (),
        train_rows,
        eval_rows,
        outcome,
        notes,
        per_example=per_pair,
        # A pair in the wrong place adds its difference of cosines by the temperature, which one batch in many has.
        loss_unit=1.0 if loss == "contrastive" else max(1.0, 0.5 / run.training.temperature),
        cautions=[*pair_cautions(train, "training"), *pair_cautions(evaluation, "evaluation")],
        eval_objective=None if loss == eval_loss else make(eval_loss),
        decided=_decided(loss, eval_loss, train_rows, eval_rows),
    )


def _loss_of(run: FinetuneConfig, data: Labelled) -> str:
    """ "contrastive" or "cosent". Raises DataError where the pairs have not what the loss needs."""
    scores, first = scores_of(data.train), data.train[0].where
    loss = run.training.embedding_loss or ("contrastive" if scores is None else "cosent")
    if loss == "cosent" and scores is None:
        raise DataError(f"{first}: the pairs have no scores, which {_KEY} = 'cosent' needs; use {_CONTRASTIVE}")
    if loss == "cosent" and most_negatives(data.train):
        raise DataError(
            f"{first}: the pairs have scores, for the CoSENT loss, and negatives, for the contrastive one; leave one "
            f"of these columns out, or leave the scores unused with {_CONTRASTIVE}"
        )
    return loss


def _refuse_what_tells_nothing(run: FinetuneConfig, data: Labelled, loss: str, train: Pairs, evaluation: Pairs) -> None:
    """Raises DataError, ConfigError where nothing can be learned, or nothing be known of it."""
    if loss == "contrastive":
        refuse_one_candidate(train, data.train)
    elif train.scores is not None:
        refuse_constant(train.scores, data.train, f"where every pair belongs together, use {_CONTRASTIVE}")
    if evaluation.scores is None:
        refuse_one_candidate(evaluation, data.eval)
    else:
        way_out = "a correlation needs pairs with different ones; without scores, pairs are scored by the nearest text"
        refuse_constant(evaluation.scores, data.eval, way_out)
    if run.training.batch_size == 1 and not (loss == "contrastive" and most_negatives(data.train)):
        raise ConfigError(
            "config.training.batch_size = 1: an embedding is learned from the pairs of a batch beside each other; use "
            "--config.training.batch_size=32"
        )


def _labelled(pairs: Pairs, loss: str) -> Rows:
    """The rows with what their loss looks at."""
    per_pair = pairs.texts.shape[1]
    if loss == "cosent" and pairs.scores is not None:
        return replace(pairs.rows, labels={"scores": np.repeat(pairs.scores, per_pair)})
    if pairs.has_equal_texts or per_pair > 2:
        return replace(pairs.rows, labels={"texts": pairs.texts.reshape(-1)})
    return pairs.rows


def _retrieved(vectors: np.ndarray, pairs: Pairs) -> Outcome:
    per_pair, texts = pairs.texts.shape[1], pairs.texts
    there = texts[:, 2:] >= 0
    negatives = vectors.reshape(len(texts), per_pair, -1)[:, 2:][there]
    numbers = np.concatenate([texts[:, 0], texts[:, 1], texts[:, 2:][there]])
    found = ranks(vectors[0::per_pair], vectors[1::per_pair], numbers, negatives)
    alone = int((found.rivals == 0).sum())
    remarks = [f"{alone:,} of {len(texts):,} texts have no other candidate"] if alone else []
    return Outcome(retrieval_scores(found.own), dict, remarks=remarks)


def _decided(loss: str, eval_loss: str, train: Rows, evaluation: Rows) -> dict[str, Decided]:
    """What is not as it was when every pair belonged together, and every other text did not."""
    found = {}
    if loss != "contrastive":
        found["training.embedding_loss"] = Decided(loss, _CONTRASTIVE)
    elif eval_loss != "contrastive":
        found["loss of the evaluation pairs"] = Decided(eval_loss, _CONTRASTIVE)
    for name, rows in (("training", train), ("evaluation", evaluation)):
        if "texts" in rows.labels:
            found[f"equal texts in {name}"] = Decided("not told from each other")
    return found
