"""Vectors of texts, from pairs that belong together, or from pairs with scores that their cosines follow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bertjax.errors import ConfigError, DataError
from bertjax.finetune.batching import Rows
from bertjax.finetune.objectives import contrastive, cosent
from bertjax.finetune.settings import FinetuneConfig
from bertjax.finetune.task_setup import Decided, Labelled, Outcome, TaskSetup
from bertjax.model.task import TaskConfig
from bertjax.tasks.examples import TextExample
from bertjax.tasks.scores import SCORES, undefined_scores

_CHUNK = 1024  # first texts that are compared with all candidates at once
_LOSSES = {"contrastive": contrastive, "cosent": cosent}
_KEY = "config.training.embedding_loss"
_CONTRASTIVE = f"--{_KEY}=contrastive"
_NAMES = {"contrastive": "the contrastive one", "cosent": "CoSENT's"}
_USED = {
    "contrastive": f"the loss is the contrastive one: pairs belong together, the others of a batch do not ({_KEY})",
    "cosent": f"the loss is CoSENT's: the cosines should rank the pairs like their scores ({_KEY})",
}


def embedding_setup(run: FinetuneConfig, data: Labelled) -> TaskSetup:
    """Pairs with scores have the CoSENT loss, pairs without the contrastive one, unless the config says which.

    Evaluation pairs with scores are scored by the correlation of their cosines; without, by how often the nearest of
    all second texts and negatives is the text's own. Raises DataError, ConfigError.
    """
    task = TaskConfig("embedding", max_length=run.model.max_length, pooling=run.model.pooling)
    loss = _loss_of(run, data)
    scored = scores_of(data.eval) is not None
    eval_loss = "cosent" if scored and run.training.embedding_loss != "contrastive" else "contrastive"
    with_negatives = [data.train] * (loss == "contrastive") + [data.eval] * (not scored)
    per_pair = 2 + max(map(most_negatives, with_negatives), default=0)
    train, evaluation = (pair_rows(run, data, part, per_pair) for part in (data.train, data.eval))
    _refuse_uninformative_data(run, data, loss, train, evaluation)
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
    notes = data.truncation_notes(run, train.truncated, of_train, evaluation.truncated, of_eval)
    notes.append(_USED[loss])
    warnings: list[str] = []
    decided: dict[str, Decided] = {}
    for pairs, rows, name in ((train, train_rows, "training"), (evaluation, eval_rows, "evaluation")):
        _describe(pairs, name, notes, warnings)
        if "texts" in rows.labels:  # older runs took every pair to belong together, and every other text not to
            decided[f"equal texts in {name}"] = Decided("not told from each other")
    if loss != eval_loss:
        notes.append(
            f"the loss of the evaluation pairs is {_NAMES[eval_loss]}, as they have {'a' if scored else 'no'} score"
        )
    if loss == "contrastive" and train.scores is not None:
        notes.append("the scores of the training pairs are not used")
    if loss != "contrastive":
        decided["training.embedding_loss"] = Decided(loss, _CONTRASTIVE)
    elif eval_loss != "contrastive":
        decided["loss of the evaluation pairs"] = Decided(eval_loss, _CONTRASTIVE)
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
        cautions=warnings,
        eval_objective=None if loss == eval_loss else make(eval_loss),
        decided=decided,
    )


def _loss_of(run: FinetuneConfig, data: Labelled) -> str:
    """ "contrastive" or "cosent". Raises DataError if the pairs lack what the loss needs."""
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


def _refuse_uninformative_data(run: FinetuneConfig, data: Labelled, loss: str, train: Pairs, evaluation: Pairs) -> None:
    """Raises DataError, ConfigError if nothing can be learned, or evaluated: a single second text, equal scores, or one
    pair a batch."""
    of_train = f"where every pair belongs together, use {_CONTRASTIVE}"
    of_eval = "a correlation needs pairs with different ones; without scores, pairs are scored by the nearest text"
    for pairs, examples, scores, fix in (
        (train, data.train, None if loss == "contrastive" else train.scores, of_train),
        (evaluation, data.eval, evaluation.scores, of_eval),
    ):
        first, count, others = examples[0].where, len(examples), pairs.texts[:, 1:]
        if scores is None and len(np.unique(others[others >= 0])) == 1:
            what = "is one pair" if count == 1 else f"are {count:,} pairs with the same second text"
            raise DataError(
                f"{first}: there {what}; contrastive loss needs at least two different second texts, or a negative"
            )
        if scores is not None and np.ptp(scores) == 0:
            which = f"all {count:,} scores are" if count > 1 else "the score of the only pair is"
            raise DataError(f"{first}: {which} {scores[0]:g}, so there is nothing to rank; {fix}")
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
    there = pairs.texts[pairs.texts >= 0]
    if per_pair > 2 or len(np.unique(there)) < len(there):
        return replace(pairs.rows, labels={"texts": pairs.texts.reshape(-1)})
    return pairs.rows


def _retrieved(vectors: np.ndarray, pairs: Pairs) -> Outcome:
    per_pair, texts = pairs.texts.shape[1], pairs.texts
    there = texts[:, 2:] >= 0
    negatives = vectors.reshape(len(texts), per_pair, -1)[:, 2:][there]
    numbers = np.concatenate([texts[:, 0], texts[:, 1], texts[:, 2:][there]])
    own, rivals = ranks(vectors[0::per_pair], vectors[1::per_pair], numbers, negatives)
    alone = int((rivals == 0).sum())
    remarks = [f"{alone:,} of {len(texts):,} texts have no other candidate"] if alone else []
    return Outcome(retrieval_scores(own), dict, remarks=remarks)


class Pairs(NamedTuple):
    """rows: ``per_pair`` of them a pair, the first text, the second, its negatives, and rows without tokens where it
    has fewer. texts: int32 [N, per_pair], equal where the model is given the same tokens, -1 where there is no text.
    scores: float32 [N], None of pairs without. truncated: texts."""

    rows: Rows
    texts: np.ndarray
    scores: np.ndarray | None
    truncated: int


def scores_of(examples: Sequence[TextExample]) -> np.ndarray | None:
    """float32 [N], or None where no pair has a score. Raises DataError where only some have one."""
    with_score = [example for example in examples if example.label is not None]
    if with_score and len(with_score) < len(examples):
        without = next(example for example in examples if example.label is None)
        raise DataError(
            f"{without.where}: the pair has no score, while {len(with_score):,} of {len(examples):,} pairs have one, "
            f"the first at {with_score[0].where}; give every pair a score, or none"
        )
    return np.array([example.label for example in with_score], np.float32) if with_score else None


def pair_rows(run: FinetuneConfig, data: Labelled, examples: Sequence[TextExample], per_pair: int) -> Pairs:
    """Raises DataError for a text without a second one, and see ``scores_of``."""
    texts, places, there = [], [], np.zeros((len(examples), per_pair), bool)
    for number, example in enumerate(examples):
        if example.second is None:
            raise DataError(f"{example.where}: an embedding is learned from pairs; there is one text")
        own = [example.text, example.second, *example.negatives][:per_pair]
        there[number, : len(own)] = True
        texts += own
        places += [example.where] * len(own)
    rows, truncated = data.rows(run, texts, places)
    numbers: dict[bytes, int] = {}
    equal = [numbers.setdefault(ids.tobytes(), len(numbers)) for ids in np.split(rows.input_ids, rows.starts[1:-1])]
    found = np.full(there.shape, -1, np.int32)
    found[there] = equal
    lengths = np.zeros(there.shape, np.int64)
    lengths[there] = rows.lengths
    starts = np.concatenate([[0], np.cumsum(lengths.reshape(-1))])
    return Pairs(replace(rows, starts=starts), found, scores_of(examples), truncated)


def most_negatives(examples: Sequence[TextExample]) -> int:
    return max(len(example.negatives) for example in examples)


def _describe(pairs: Pairs, what: str, notes: list[str], warnings: list[str]) -> None:
    """Adds notes on pairs that repeat others, and on negatives; warnings of texts that are equal. what: "training" or
    "evaluation"."""
    texts, count = pairs.texts, len(pairs.texts)
    repeated = count - len(np.unique(texts[:, :2], axis=0))
    several = int((np.unique(texts[texts >= 0], return_counts=True)[1] > 1).sum())
    if several:
        notes.append(
            f"{repeated:,} of {count:,} {what} pairs repeat an earlier one, {several:,} texts occur more than once: "
            "equal texts, and what they are paired with, are not told from each other"
        )
    if texts.shape[1] > 2:
        negatives = texts[:, 2:] >= 0
        notes.append(
            f"{int(negatives.any(axis=1).sum()):,} of {count:,} {what} pairs have negatives, {int(negatives.sum()):,} "
            "in all, used as negatives for every pair of their batch"
        )
    if same := int((texts[:, 0] == texts[:, 1]).sum()):
        warnings.append(
            f"{same:,} of {count:,} {what} pairs are a text and itself: their cosine is 1 whatever the model has "
            "learned, but for dropout"
        )
    if wrong := int((texts[:, :2, None] == texts[:, None, 2:]).any(axis=(1, 2)).sum()):
        warnings.append(
            f"{wrong:,} of {count:,} {what} pairs have a negative that is one of their own texts; it is not used"
        )


def ranks(
    first: np.ndarray, second: np.ndarray, texts: np.ndarray, negatives: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(the rank of each first text's own second text, 1 is the nearest, after all with the same cosine; how many rivals
    it has), int64 [N], of unit vectors [N, H] among all different second texts and ``negatives`` [K, H].

    texts: int [2 N + K], numbers of the first texts, the second and the negatives; equal texts have equal numbers. A
    text that equals a first text, or that any pair pairs with it, is not among its rivals.
    """
    count = len(first)
    firsts, seconds, candidates = texts[:count], texts[count : 2 * count], texts[count:]
    vectors = second if negatives is None else np.concatenate([second, negatives])
    numbers, places = np.unique(candidates, return_index=True)
    pool = vectors[places]
    column = {int(number): place for place, number in enumerate(numbers)}
    belongs: dict[int, set[int]] = defaultdict(set)
    for one, other in zip(firsts.tolist(), seconds.tolist(), strict=True):
        belongs[one] |= {one, other}
        belongs[other] |= {one, other}
    kept = {one: [column[text] for text in belongs[one] if text in column] for one in set(firsts.tolist())}
    own = []
    for begin in range(0, count, _CHUNK):
        cosines = first[begin : begin + _CHUNK] @ pool.T
        rows = range(len(cosines))
        best = cosines[rows, [column[int(text)] for text in seconds[begin : begin + _CHUNK]]]
        is_before = cosines >= best[:, None]
        for row in rows:
            is_before[row, kept[int(firsts[begin + row])]] = False
        own.append(1 + is_before.sum(axis=1))
    rivals = [len(pool) - len(kept[int(text)]) for text in firsts]
    return np.concatenate(own), np.array(rivals)


def retrieval_scores(own: np.ndarray) -> dict[str, float]:
    """From ranks: ``accuracy``, how often it is 1, and ``mrr``, the mean of one over it."""
    return {"accuracy": float((own == 1).mean()), "mrr": float((1.0 / own).mean())}
