"""The losses are those of torch and transformers, and those of parts of a batch add up."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.finetune import objectives
from bertjax.finetune.objectives import contrastive

RANDOM = np.random.default_rng(0)
PRESENT = np.array([1, 1, 1, 1, 1, 0], np.float32)
B, S, C = 6, 5, 4
EXAMPLES = np.broadcast_to((np.arange(S) < 4).astype(np.int32), (B, S))

BATCHES = {
    "classification": {"labels": RANDOM.integers(0, C, B)},
    "multi_label": {"labels": RANDOM.integers(0, 2, (B, C)).astype(np.float32)},
    "regression": {"labels": RANDOM.standard_normal(B).astype(np.float32)},
    "tagging": {"labels": np.where(RANDOM.random((B, S)) < 0.3, -1, RANDOM.integers(0, C, (B, S)))},
    "answering": {"labels": RANDOM.integers(0, 4, (B, 2)), "example_ids": EXAMPLES},
}
LOGITS = {
    kind: RANDOM.standard_normal(shape).astype(np.float32)
    for kind, shape in {
        "classification": (B, C),
        "multi_label": (B, C),
        "regression": (B, 1),
        "tagging": (B, S, C),
        "answering": (B, S, 2),
    }.items()
}
OF_CLASSES = ("classification", "multi_label", "tagging")
CLASS_WEIGHTS = np.array([0.5, 1.0, 2.0, 3.0], np.float32)


def batch_of(kind, rows=slice(None)):
    return {name: jnp.asarray(value[rows]) for name, value in (BATCHES[kind] | {"weights": PRESENT}).items()}


def objective_of(kind, class_weights=None):
    if kind not in OF_CLASSES:
        return getattr(objectives, kind)()
    of_classes = objectives.multi_label if kind == "multi_label" else objectives.classes
    return of_classes(None if class_weights is None else jnp.asarray(class_weights))


def loss_of(objective, logits, batch):
    return float(
        objective.total(objective.sums(SimpleNamespace(logits=jnp.asarray(logits)), batch), objective.weights(batch))
    )


def torch_loss(torch, kind, class_weights):
    functional, kept = torch.nn.functional, PRESENT > 0
    logits, labels = torch.tensor(LOGITS[kind][kept]), torch.tensor(BATCHES[kind]["labels"][kept])
    weights = None if class_weights is None else torch.tensor(class_weights)
    if kind == "classification":
        return functional.cross_entropy(logits, labels, weight=weights)
    if kind == "multi_label":
        losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return losses.mean() if weights is None else (losses * weights).sum() / (weights.sum() * len(losses))
    if kind == "regression":
        return functional.mse_loss(logits[:, 0], labels)
    if kind == "tagging":
        return functional.cross_entropy(logits.reshape(-1, C), labels.reshape(-1), weight=weights, ignore_index=-1)
    halves = [functional.cross_entropy(logits[:, :4, side], labels[:, side]) for side in (0, 1)]
    return sum(halves) / 2


@pytest.mark.parametrize(
    ("kind", "class_weights"),
    [(kind, None) for kind in LOGITS] + [(kind, CLASS_WEIGHTS) for kind in OF_CLASSES],
    ids=[f"{kind}-alike" for kind in LOGITS] + [f"{kind}-weighted" for kind in OF_CLASSES],
)
def test_losses_are_those_of_torch(kind, class_weights):
    torch = pytest.importorskip("torch")
    found = loss_of(objective_of(kind, class_weights), LOGITS[kind], batch_of(kind))
    assert found == pytest.approx(float(torch_loss(torch, kind, class_weights)), rel=1e-5)


@pytest.mark.parametrize("kind", LOGITS)
def test_parts_of_a_batch_add_up(kind):
    objective = objective_of(kind, CLASS_WEIGHTS if kind in OF_CLASSES else None)
    whole, weights = batch_of(kind), objective.weights(batch_of(kind))
    total = 0.0
    for rows in (slice(0, 2), slice(2, 6)):
        output = SimpleNamespace(logits=jnp.asarray(LOGITS[kind][rows]))
        total += float(objective.total(objective.sums(output, batch_of(kind, rows)), weights))
    assert total == pytest.approx(loss_of(objective, LOGITS[kind], whole), rel=1e-5)


def test_accuracy_counts_every_class_alike():
    batch = batch_of("classification")
    logits = jnp.asarray(np.eye(C, dtype=np.float32)[BATCHES["classification"]["labels"]])
    logits = logits.at[0].set(-logits[0])
    objective = objective_of("classification", CLASS_WEIGHTS)
    sums = objective.sums(SimpleNamespace(logits=logits), batch)
    assert float(objective.means(sums, objective.weights(batch))["accuracy"]) == pytest.approx(4 / 5)


def test_contrastive_loss_is_the_cross_entropy_of_cosines_both_ways():
    vectors = RANDOM.standard_normal((8, 16)).astype(np.float32)
    present = np.array([1, 1, 1, 1, 1, 1, 0, 0], np.float32)
    objective = contrastive(0.1)
    batch = {"weights": jnp.asarray(present)}
    sums = objective.sums(SimpleNamespace(embeddings=jnp.asarray(vectors)), batch)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit[0:6:2] @ unit[1:6:2].T / 0.1
    log_softmax = lambda x: x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    expected = -(np.diag(log_softmax(cosines)).mean() + np.diag(log_softmax(cosines.T)).mean()) / 2
    assert float(objective.total(sums, objective.weights(batch))) == pytest.approx(expected, rel=1e-5)
