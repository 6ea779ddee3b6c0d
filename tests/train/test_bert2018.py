"""The recipe of 2018 against its formulas, worked out here once more from google-research/bert.

The parts have their own tests: update rules in test_optimizers.py, schedules in test_schedules.py, losses in
test_losses.py, the numbers of the shipped configs in tests/test_configs.py. Here they are held together: a whole
training step, every step of the published learning rate, the losses from logits, the initial weights.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from scipy.special import log_softmax
from scipy.stats import kstest, truncnorm

from bertjax.cli.flags import parse
from bertjax.config import DataConfig, ModelConfig, OptimizerConfig, PhaseConfig, RunConfig, resolve
from bertjax.data.stream.pipeline import open_batches
from bertjax.engine.schedules import run_schedule
from bertjax.model.bert import Bert, split_params
from bertjax.objectives.losses import PRETRAINING
from bertjax.objectives.registry import phase_settings
from bertjax.parallel.mesh import make_mesh
from bertjax.parallel.sharding import to_global
from bertjax.train.pretraining_job import make_job

CONFIGS = Path(__file__).parents[2] / "configs"
PUBLISHED = ["base.py", "large.py"]

PHASE = PhaseConfig(sequence_length=64, batch_size=12, steps=6, max_predictions=10, learning_rate=1e-3, warmup_steps=2)
RUN = RunConfig(
    model=ModelConfig(
        vocab_size=200,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_act="gelu_new",
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    data=DataConfig(packing=False),
    phases={"phase1": PHASE},
    optimizer=OptimizerConfig(name="bert2018"),
    precision="float32",
)


def shipped(name):
    return resolve(parse("test", [f"--config={CONFIGS / name}"], {})[0])


# --- A whole training step --------------------------------------------------------------------------------------------


def layer_norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def gelu(x):
    """modeling.py, gelu."""
    return x * 0.5 * (1.0 + jnp.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def encoded(params, batch):
    """modeling.py, embedding_postprocessor and transformer_model: [B, S, H]. One pair a row."""
    table = params["embeddings"]
    ids = batch["input_ids"]
    x = table["word_embeddings"][ids] + table["token_type_embeddings"][batch["token_type_ids"]]
    x = layer_norm(x + table["position_embeddings"][np.arange(ids.shape[1])], table["layer_norm"])
    visible = -10000.0 * (batch["example_ids"] == 0)[:, None, None, :]
    split = lambda y: y.reshape(*y.shape[:2], 4, 8).transpose(0, 2, 1, 3)  # [B, N, S, D]
    for index in range(2):
        layer = jax.tree.map(lambda p, i=index: p[i], params["encoder"]["layers"])
        attention, mlp = layer["attention"], layer["mlp"]
        query, key, value = (split(dense(x, attention[name])) for name in ("query", "key", "value"))
        probs = jax.nn.softmax(query @ key.swapaxes(-1, -2) / np.sqrt(8) + visible, axis=-1)
        context = (probs @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        x = layer_norm(x + dense(context, attention["output"]), attention["layer_norm"])
        x = layer_norm(x + dense(gelu(dense(x, mlp["intermediate"])), mlp["output"]), mlp["layer_norm"])
    return x


def loss_of_2018(params, batch):
    """run_pretraining.py, get_masked_lm_output + get_next_sentence_output: a scalar."""
    x = encoded(params, batch)
    head = params["mlm_head"]
    at_masked = jnp.take_along_axis(x, batch["masked_lm_positions"][:, :, None], axis=1)
    at_masked = layer_norm(gelu(dense(at_masked, head["transform"])), head["layer_norm"])
    logits = at_masked @ params["embeddings"]["word_embeddings"][:200].T + head["bias"][:200]
    one_hot = jax.nn.one_hot(batch["masked_lm_ids"], 200, dtype=x.dtype)
    per_token = -(jax.nn.log_softmax(logits) * one_hot).sum(-1)
    weights = batch["masked_lm_weights"].astype(x.dtype)
    mlm = (weights * per_token).sum() / (weights.sum() + 1e-5)
    pooled = jnp.tanh(dense(x[:, 0], params["pooler"]["dense"]))
    one_hot = jax.nn.one_hot(batch["next_sentence_labels"][:, 0], 2, dtype=x.dtype)
    nsp = -(jax.nn.log_softmax(dense(pooled, params["nsp_head"]["dense"])) * one_hot).sum(-1).mean()
    return mlm + nsp


def update_of_2018(params, grads, moments, rate):
    """optimization.py: clip_by_global_norm in create_optimizer, AdamWeightDecayOptimizer.apply_gradients.

    Flat dicts of float64 arrays. No bias correction; weight decay skips what is named LayerNorm, layer_norm or bias.
    """
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    for name, g in grads.items():
        g = g / max(norm, 1.0)
        m, v = moments[name]
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        update = m / (np.sqrt(v) + 1e-6)
        if not re.search("layer_norm|bias", name):
            update = update + 0.01 * params[name]
        params[name], moments[name] = params[name] - rate * update, (m, v)
    return norm


@pytest.fixture(scope="module")
def batches(synthetic):
    corpus, tokenizer = synthetic
    with open_batches(corpus, tokenizer, [phase_settings(RUN, 0)], 0, 0, PHASE.batch_size, prefetch=0) as stream:
        return [next(stream)[0] for _ in range(PHASE.steps)]


def test_six_steps_are_those_of_2018(batches):
    """The real step in float32 against model, loss, gradient and update written anew, in float64."""
    job = make_job(RUN, make_mesh(1, 1, 1, devices=jax.devices()[:1]))
    state, step = job.initial_state(), job.train_step(PHASE)
    flat = lambda tree: {k: np.asarray(v, np.float64) for k, v in flatten_dict(tree, sep="/").items()}
    initial = flat(jax.device_get(state.params))
    params, moments = dict(initial), dict.fromkeys(initial, (0.0, 0.0))
    reference, norms = jax.jit(jax.value_and_grad(loss_of_2018)), []
    for done, batch in enumerate(batches):
        with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
            loss, grads = reference(unflatten_dict(params, sep="/"), batch)
        rate = 1e-3 * [0.0, 0.5, 4 / 6, 3 / 6, 2 / 6, 1 / 6][done]
        norms.append(update_of_2018(params, flat(jax.device_get(grads)), moments, rate))

        state, metrics = step(state, to_global(batch, job.mesh))
        assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-6)
        assert float(metrics["grad_norm"]) == pytest.approx(norms[-1], rel=1e-5)
        assert float(metrics["learning_rate"]) == pytest.approx(rate, rel=1e-6)
    assert min(norms) < 1.0 < max(norms), "clipping is to bite in some of the steps only"
    found = flat(jax.device_get(state.params))
    # Parameters move by up to 1e-2 in the six steps; float32 leaves 3e-7 of that open.
    for name in params:
        np.testing.assert_allclose(found[name] - initial[name], params[name] - initial[name], atol=1e-6, err_msg=name)


# --- Learning rate ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_learning_rate_of_the_million_steps(name):
    """optimization.py, create_optimizer: polynomial_decay to 0 over all steps; linear warm-up from 0."""
    steps = np.arange(1_000_001)
    expected = np.where(steps < 10_000, 1e-4 * steps / 10_000, 1e-4 * (1 - steps / 1_000_000))
    found = np.asarray(run_schedule(shipped(name))(jnp.asarray(steps)))
    # 1 - progress in float32, as in the original: 6e-8 of the peak off at most.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4 * 6e-8)
    # The decay counts from step 0: where the warm-up ends the rate falls by a hundredth, and stays below the peak.
    assert found[9_999] > found[10_000] == pytest.approx(0.99e-4, rel=1e-6)
    assert found.max() == found[9_999] < 1e-4
    assert found[0] == found[1_000_000] == 0.0


# --- Losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [0, 1, 6])
def test_losses_from_logits(masked):
    """run_pretraining.py: MLM sum / (sum of weights + 1e-5), so 0 without masked tokens; NSP the mean over pairs."""
    random = np.random.default_rng(masked)
    mlm_logits, nsp_logits = random.normal(size=(3, 4, 50)), random.normal(size=(3, 1, 2))
    batch = {
        "masked_lm_ids": random.integers(0, 50, (3, 4)),
        "masked_lm_weights": (np.arange(12) < masked).astype(np.float32).reshape(3, 4),
        "next_sentence_labels": random.integers(0, 2, (3, 1)),
        "next_sentence_weights": np.ones((3, 1), np.float32),
    }
    output = SimpleNamespace(mlm_logits=jnp.asarray(mlm_logits), nsp_logits=jnp.asarray(nsp_logits))
    means = PRETRAINING.means(PRETRAINING.sums(output, batch), PRETRAINING.weights(batch))

    per_token = -np.take_along_axis(log_softmax(mlm_logits, -1), batch["masked_lm_ids"][..., None], -1)[..., 0]
    per_pair = -np.take_along_axis(log_softmax(nsp_logits, -1), batch["next_sentence_labels"][..., None], -1)
    mlm = (per_token * batch["masked_lm_weights"]).sum() / (masked + 1e-5)
    # The 1e-5 shows: with one masked token it is worth ten times the tolerance.
    assert float(means["mlm_loss"]) == pytest.approx(mlm, rel=1e-6)
    assert float(means["nsp_loss"]) == pytest.approx(per_pair.mean(), rel=1e-6)


# --- Initial weights --------------------------------------------------------------------------------------------------


def test_initial_weights_are_a_truncated_normal():
    """modeling.py, create_initializer (tf.truncated_normal_initializer, .02); biases 0; LayerNorm 0 and 1."""
    config = ModelConfig(vocab_size=3000, hidden_size=128, num_hidden_layers=2, num_attention_heads=2)
    _, params = split_params(Bert(config, nnx.Rngs(0)))
    expected = truncnorm(-2, 2, scale=0.02)
    assert expected.std() == pytest.approx(0.8796 * 0.02, rel=1e-4)
    drawn = 0
    for name, array in flatten_dict(params, sep="/").items():
        values = np.asarray(array, np.float64)
        kind = name.split("/")[-1]
        if kind in ("bias", "scale"):
            assert (values == (kind == "scale")).all(), name
            continue
        values = values[:3000] if kind == "word_embeddings" else values  # the rest only fills up to a multiple of 128
        assert np.abs(values).max() <= 0.04, name
        # Fixed seed, so no chance in it: a hundred times less likely than any array here would be by right.
        assert kstest(values.reshape(-1), expected.cdf).pvalue > 1e-3, name
        drawn += values.size
        if values.size > 10_000:
            assert values.std() == pytest.approx(expected.std(), rel=4 / np.sqrt(values.size)), name
    assert drawn > 1_000_000


# --- The shipped configs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_ask_for_this_recipe(name):
    """The keys that tests/test_configs.py leaves out: bert_config.json of the released models, flags of 2018."""
    run = shipped(name)
    model = run.model
    assert (model.vocab_size, model.max_position_embeddings, model.type_vocab_size) == (30522, 512, 2)
    assert (model.hidden_dropout_prob, model.attention_probs_dropout_prob) == (0.1, 0.1)
    assert (model.initializer_range, model.layer_norm_eps, model.hidden_act) == (0.02, 1e-12, "gelu_new")
    assert model.intermediate_size == 4 * model.hidden_size == 4 * 64 * model.num_attention_heads
    assert model.position_embedding_type == "absolute"
    assert (run.data.objective, run.data.whole_word_masking, run.data.lowercase) == ("mlm_nsp", False, True)
    assert [phase.sequence_length for phase in run.phases.values()] == [128, 512]
    # One schedule over both phases: the second has no rate of its own.
    assert run.phases["phase2"].learning_rate is None and run.phases["phase2"].warmup_steps is None
