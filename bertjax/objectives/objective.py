"""What an objective of pretraining is: how examples are made of text, and the cross entropies that are minimised."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertjax.data.stream.settings import ExampleMaker

# Added to the number of masked tokens (google-research/bert run_pretraining.py, get_masked_lm_output).
MLM_WEIGHT_EPSILON = 1e-5


@dataclass(frozen=True)
class CrossEntropy:
    """A part of the loss: the mean cross entropy of a head over the labelled places of a batch.

    name: such as "mlm", recorded as mlm_loss and mlm_accuracy. title: it in words. logits: of the model's outputs.
    labels, weights: fields of the batch. epsilon, least: the sum is divided by max(sum of weights + epsilon, least).
    """

    name: str
    title: str
    logits: str
    labels: str
    weights: str
    epsilon: float = 0.0
    least: float = 0.0

    @property
    def fields(self) -> tuple[str, str]:
        """What a metrics row calls its mean and its share of hits."""
        return f"{self.name}_loss", f"{self.name}_accuracy"

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the held-out values that say what the mean and the share of hits are worth."""
        return ()

    def counts(self, batch: Mapping[str, np.ndarray], unigram: np.ndarray) -> dict[str, float]:
        """What ``held_out`` wants to know of a batch on the host. unigram: log probabilities [V]."""
        del batch, unigram
        return {}

    def held_out(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Values of an evaluation, from NAME_loss, NAME_hits, NAME_weight and ``counts``, summed over all batches."""
        divisor = max(totals[f"{self.name}_weight"] + self.epsilon, self.least)
        loss, accuracy = self.fields
        return {loss: totals[loss] / divisor, accuracy: totals[f"{self.name}_hits"] / divisor}

    def brief(self, values: Mapping[str, Any]) -> str:
        """An evaluation as part of a line; "" if there is nothing to say."""
        loss, accuracy = self.fields
        return f"{self.name} loss {values[loss]:.3f}, {self.name} accuracy {values[accuracy]:.1%}"

    def summary(self, values: Mapping[str, Any], what: str) -> str:
        """The last evaluation as a line of its own; "" if there is nothing to say. what: of which text it is."""
        loss, accuracy = self.fields
        return f"{what} {self.title} loss {values[loss]:.3f} nats; accuracy {values[accuracy]:.1%}"


@dataclass(frozen=True)
class MaskedTokens(CrossEntropy):
    """Compared with a model that knows only how common each token is."""

    @property
    def baselines(self) -> tuple[str, ...]:
        return ("unigram_loss",)

    def counts(self, batch: Mapping[str, np.ndarray], unigram: np.ndarray) -> dict[str, float]:
        return {"unigram": float(-(unigram[batch[self.labels]] * batch[self.weights]).sum())}

    def held_out(self, totals: Mapping[str, float]) -> dict[str, float]:
        divisor = totals[f"{self.name}_weight"] + self.epsilon
        return super().held_out(totals) | {"unigram_loss": totals["unigram"] / divisor}

    def brief(self, values: Mapping[str, Any]) -> str:
        return (
            f"mlm loss {values['mlm_loss']:.3f} (unigram {values['unigram_loss']:.3f}), "
            f"mlm accuracy {values['mlm_accuracy']:.1%}"
        )

    def summary(self, values: Mapping[str, Any], what: str) -> str:
        return (
            f"{what} masked-LM loss {values['mlm_loss']:.3f} nats, {values['unigram_loss'] - values['mlm_loss']:.3f} "
            f"under the unigram baseline of {values['unigram_loss']:.3f} on the same masks; "
            f"accuracy {values['mlm_accuracy']:.1%}"
        )


@dataclass(frozen=True)
class PairLabels(CrossEntropy):
    """Labels 0 and 1 of pairs of texts, compared with always naming the commoner one. share: the recorded share of
    label 0 is NAME_share. first: what label 0 is, in words."""

    least: float = 1.0
    share: str = ""
    first: str = ""

    @property
    def baselines(self) -> tuple[str, ...]:
        return f"{self.name}_chance", f"{self.name}_pairs", f"{self.name}_{self.share}"

    def counts(self, batch: Mapping[str, np.ndarray], unigram: np.ndarray) -> dict[str, float]:
        of = lambda label: float((batch[self.weights] * (batch[self.labels] == label)).sum())
        return {f"{self.name}_{label}": of(label) for label in (0, 1)}

    def held_out(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Nothing where no pair has a label; without loss, accuracy and chance where all have the same one: predicting
        it would prove nothing."""
        labels = [totals[f"{self.name}_{label}"] for label in (0, 1)]
        chance, pairs, share = self.baselines
        if not any(labels):
            return {}
        found = {pairs: sum(labels), share: labels[0] / sum(labels)}
        return found | super().held_out(totals) | {chance: max(labels) / sum(labels)} if all(labels) else found

    def in_words(self, values: Mapping[str, Any]) -> str:
        """NAME_chance and what is behind it; without a chance only that."""
        chance, pairs, share = (values.get(name) for name in self.baselines)
        behind = f"of {pairs:,.0f} pairs, {share:.1%} of them {self.first}"
        return behind if chance is None else f"{chance:.1%} {behind}"

    def brief(self, values: Mapping[str, Any]) -> str:
        accuracy = self.fields[1]
        if accuracy in values:
            return f"{self.name} accuracy {values[accuracy]:.1%} (chance {self.in_words(values)})"
        return f"{self.name} accuracy not scored ({self.in_words(values)})" if values.get(self.baselines[1]) else ""

    def summary(self, values: Mapping[str, Any], what: str) -> str:
        accuracy = self.fields[1]
        if accuracy in values:
            return f"{what} {self.title} accuracy {values[accuracy]:.1%}, chance {self.in_words(values)}"
        if not values.get(self.baselines[1]):
            return ""
        return f"{what} {self.title} accuracy is not scored: {self.in_words(values)}"


@dataclass(frozen=True)
class PairCautions:
    """What a corpus without pairs makes of the objective, in words.

    labels: the part of the loss that needs them. documents: why it needs two; "" if one does. impossible: what every
    example would be if no sentence followed another. few: a warning, to be formatted with ``share``, of
    examples that no sentence follows, and ``constant``, how often one answer is right then.
    """

    labels: PairLabels
    documents: str
    impossible: str
    few: str


@dataclass(frozen=True)
class PretrainingObjective:
    """maker: how examples are made (no jax). losses: what is minimised: the sum of these. cautions: of objectives whose
    examples are pairs. own_heads: parts of the parameters that mean something else than their Hugging Face name says:
    they are not exported, and not taken over from a run with another objective."""

    maker: ExampleMaker
    losses: tuple[CrossEntropy, ...]
    cautions: PairCautions | None = None
    own_heads: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.maker.name

    @property
    def logits(self) -> list[str]:
        """The outputs of the model that are learned, which say what heads it needs (``model.heads.heads_with``)."""
        return [loss.logits for loss in self.losses]

    @property
    def fields(self) -> tuple[str, ...]:
        """Deterministic values of a train row, in the order they are written."""
        own = (field for loss in self.losses for field in loss.fields)
        return ("loss", *own, "learning_rate", "grad_norm", "loss_scale")


def unigram_log_probs(token_counts: np.ndarray) -> np.ndarray:
    """Log probabilities float64 [V] of tokens by their training counts [V], one added to each."""
    counts = token_counts.astype(np.float64) + 1.0
    return np.log(counts / counts.sum())
