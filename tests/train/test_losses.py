import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from bertjax.engine.recorder import throughput
from bertjax.objectives.losses import PRETRAINING, weighted_cross_entropy
from bertjax.objectives.mlm import MASKED_LM
from bertjax.objectives.objective import unigram_log_probs


def test_cross_entropy_against_scipy():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(3, 4, 11)), random.integers(0, 11, (3, 4))
    weights = (random.random((3, 4)) < 0.6).astype(np.float32)
    loss, hits = weighted_cross_entropy(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(weights))
    chosen = np.take_along_axis(log_softmax(logits, -1), labels[..., None], -1)[..., 0]
    assert float(loss) == pytest.approx(-(chosen * weights).sum(), rel=1e-5)
    assert float(hits) == ((logits.argmax(-1) == labels) * weights).sum()


def test_masked_vocabulary_padding_does_not_count():
    logits = jnp.asarray([[0.0, 0.0, -1e30]])
    loss, _ = weighted_cross_entropy(logits, jnp.asarray([1]), jnp.ones(1))
    assert float(loss) == pytest.approx(np.log(2), rel=1e-6)


def test_denominators():
    """MLM: number of masked tokens + 1e-5, as in run_pretraining.py; NSP: number of pairs."""
    sums = {
        "mlm_loss": jnp.float32(6),
        "mlm_hits": jnp.float32(1),
        "nsp_loss": jnp.float32(3),
        "nsp_hits": jnp.float32(2),
    }
    weights = {"mlm": jnp.float32(2), "nsp": jnp.float32(4)}
    means = PRETRAINING.means(sums, weights)
    assert float(means["mlm_loss"]) == pytest.approx(6 / 2.00001, rel=1e-6)
    assert float(means["nsp_accuracy"]) == 0.5
    assert float(PRETRAINING.total(sums, weights)) == pytest.approx(6 / 2.00001 + 0.75, rel=1e-6)
    assert float(PRETRAINING.means(sums, {"mlm": jnp.float32(2), "nsp": jnp.float32(0)})["nsp_loss"]) == 3.0


def test_unigram_baseline_is_smoothed():
    log_probs = unigram_log_probs(np.array([0, 8, 0]))
    np.testing.assert_allclose(np.exp(log_probs), [1 / 11, 9 / 11, 1 / 11])
    batch = {"masked_lm_ids": np.array([[1, 0]]), "masked_lm_weights": np.array([[1.0, 0.0]])}
    assert MASKED_LM.counts(batch, log_probs) == pytest.approx({"unigram": -np.log(9 / 11)})


def test_throughput_counts_real_tokens_only():
    speed = throughput(real_tokens=96, slots=128, flops=100.0, seconds=2.0, peak=100.0)
    assert speed == {"tokens_per_second": 48.0, "mfu": 2 * 50 * 0.75 / 2 / 100, "padding_fraction": 0.25}
    assert throughput(1, 1, 1.0, 1.0, None)["mfu"] is None
