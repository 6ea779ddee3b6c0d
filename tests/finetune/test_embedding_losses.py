"""The losses of embeddings against numpy: of pairs with scores, with negatives, and with equal texts among them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.finetune.objectives import contrastive, cosent

T = 0.1


def loss_of(objective, vectors, **batch):
    batch = {name: jnp.asarray(value) for name, value in batch.items()}
    output = SimpleNamespace(embeddings=jnp.asarray(vectors))
    return objective.total(objective.sums(output, batch), objective.weights(batch))


def unit_vectors(rows, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float32)
    return vectors, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def told_apart(unit, texts, per_pair):
    """The contrastive loss, a pair and a direction at a time: what belongs to a text is never among the others."""
    firsts, seconds = texts[0::per_pair], texts[1::per_pair]
    belong = {frozenset(pair) for pair in zip(firsts, seconds, strict=True)} | {frozenset([t]) for t in texts}
    rows = list(enumerate(texts))
    forward = [row for row in rows if row[0] % per_pair and row[1] >= 0]
    losses = []
    for number in range(len(firsts)):
        own, other = number * per_pair, number * per_pair + 1
        for query, key, pool in ((own, other, forward), (other, own, rows[0::per_pair])):
            rivals = [row for row, text in pool if row != key and frozenset([texts[query], text]) not in belong]
            logits = np.array([unit[query] @ unit[row] for row in [key, *rivals]]) / T
            losses.append(np.log(np.exp(logits).sum()) - logits[0])
    return np.mean(losses)


# Texts by number, so many a pair: -1 is none.
BATCHES = {
    "all different": ([0, 1, 2, 3, 4, 5], 2),
    "equal seconds": ([0, 1, 2, 1, 4, 5], 2),
    "an anchor with two positives": ([0, 1, 0, 3, 4, 5], 2),
    "a second that is another pair's first": ([0, 1, 1, 3, 4, 5], 2),
    "a pair twice": ([0, 1, 0, 1, 4, 5], 2),
    "a pair the other way round": ([0, 1, 1, 0, 4, 5], 2),
    "a positive beside another row's copy of it": ([0, 1, 6, 2, 0, 2], 2),
    "two equal texts": ([0, 0, 2, 3, 4, 5], 2),
    "negatives": ([0, 1, 10, 2, 3, 11, 4, 5, 12], 3),
    "half of the negatives": ([0, 1, 10, 2, 3, -1, 4, 5, 12], 3),
    "a negative that is a positive elsewhere": ([0, 1, 3, 0, 3, -1, 4, 5, 1], 3),
}


@pytest.mark.parametrize(("texts", "per_pair"), BATCHES.values(), ids=list(BATCHES))
def test_equal_texts_are_not_told_apart(texts, per_pair):
    vectors, unit = unit_vectors(len(texts))
    same = {text: texts.index(text) for text in texts}
    rows = [same[text] for text in texts]  # equal texts have equal vectors
    found = loss_of(
        contrastive(T, per_pair),
        vectors[rows],
        weights=np.ones(len(texts), np.float32),
        texts=np.array(texts, np.int32),
    )
    assert float(found) == pytest.approx(told_apart(unit[rows], texts, per_pair), rel=1e-5)


def test_rows_of_padding_neither_count_nor_are_rivals():
    texts, per_pair = BATCHES["half of the negatives"]
    vectors, _ = unit_vectors(len(texts))
    weights = np.ones(len(texts), np.float32)
    alone = loss_of(contrastive(T, per_pair), vectors, weights=weights, texts=np.array(texts, np.int32))
    # Padding is a copy of the first row, but for its weight.
    padded = loss_of(
        contrastive(T, per_pair),
        np.concatenate([vectors, np.repeat(vectors[:1], 3, axis=0)]),
        weights=np.concatenate([weights, np.zeros(3, np.float32)]),
        texts=np.array([*texts, *[texts[0]] * 3], np.int32),
    )
    assert float(padded) == pytest.approx(float(alone), rel=1e-6)


@pytest.mark.parametrize("kind", ["contrastive", "cosent"])
def test_a_row_without_tokens_has_a_gradient_of_zero(kind):
    """Its vector is 0, where a norm has no derivative: the last batch of an epoch was lost to that."""
    vectors, _ = unit_vectors(6)
    vectors[4:] = 0.0
    objective = {"contrastive": contrastive, "cosent": cosent}[kind](T, 2)
    batch = {"weights": np.array([1, 1, 1, 1, 0, 0], np.float32), "scores": np.arange(6, dtype=np.float32) // 2}
    gradient = np.asarray(jax.grad(lambda v: loss_of(objective, v, **batch))(jnp.asarray(vectors)))
    assert np.isfinite(gradient).all() and np.abs(gradient[:4]).max() > 0 and np.all(gradient[4:] == 0)


def ordered(cosines, scores):
    """CoSENT by its formula: log(1 + sum over all i, j with scores[i] > scores[j] of exp((cos[j] - cos[i]) / T))."""
    total = 1.0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if scores[i] > scores[j]:
                total += np.exp((cosines[j] - cosines[i]) / T)
    return np.log(total)


@pytest.mark.parametrize("scores", [[0.0, 5.0, 2.5, 2.5], [0.0, 1.0, 0.0, 1.0], [-1.0, 0.5, 0.25, 1.0]])
def test_cosent_is_its_formula(scores):
    vectors, unit = unit_vectors(8)
    cosines = (unit[0::2] * unit[1::2]).sum(axis=1)
    batch = {"weights": np.ones(8, np.float32), "scores": np.repeat(scores, 2).astype(np.float32)}
    assert float(loss_of(cosent(T, 2), vectors, **batch)) == pytest.approx(ordered(cosines, scores), rel=1e-5)
    # Without the last pair it is that of the others.
    batch["weights"][6:] = 0
    assert float(loss_of(cosent(T, 2), vectors, **batch)) == pytest.approx(ordered(cosines[:3], scores[:3]), rel=1e-5)


def test_scores_in_the_order_of_the_cosines_leave_little_to_learn():
    angles = np.array([1.5, 1.0, 0.5, 0.0], np.float32)
    vectors = np.stack([v for a in angles for v in (np.array([1.0, 0.0]), np.array([np.cos(a), np.sin(a)]))])
    loss = lambda scores: float(
        loss_of(
            cosent(0.05, 2),
            vectors.astype(np.float32),
            weights=np.ones(8, np.float32),
            scores=np.repeat(scores, 2).astype(np.float32),
        )
    )
    assert loss([0, 1, 2, 3]) < 0.2 and loss([3, 2, 1, 0]) > 15 and loss([1, 1, 1, 1]) == 0.0
