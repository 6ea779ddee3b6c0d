"""The model against itself run another way, and the proof that packed examples do not see each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bertjax.attention_kernels import KERNELS, Demand
from bertjax.config import ModelConfig
from bertjax.errors import ConfigError
from bertjax.model.attention import SegmentIds, kernel
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.block import Pass
from bertjax.model.dropout import DropoutSeed
from bertjax.model.heads import Encoded
from bertjax.model.precision import FLOAT32, precision_named

CONFIG = ModelConfig(
    vocab_size=150,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=40,
    initializer_range=0.1,
)
WITHOUT_PROBS_DROPOUT = dataclasses.replace(CONFIG, attention_probs_dropout_prob=0.0)


def rows(batch=3, length=24, seed=0):
    """Input ids with two packed examples and some padding in each row."""
    random = np.random.default_rng(seed)
    ids = random.integers(5, CONFIG.vocab_size, (batch, length))
    example_ids = np.repeat([[1] * 10 + [2] * 9 + [0] * 5], batch, axis=0)
    position_ids = np.repeat([[*range(10), *range(9), *range(5)]], batch, axis=0)
    return {
        "input_ids": jnp.asarray(ids),
        "token_type_ids": jnp.asarray(random.integers(0, 2, (batch, length))),
        "position_ids": jnp.asarray(position_ids),
        "example_ids": jnp.asarray(example_ids),
    }


def loss(params, graphdef, dropout_seed=None, batch=None):
    out = merge_params(graphdef, params)(
        **(batch or rows()),
        masked_lm_positions=jnp.full((3, 2), 4),
        cls_positions=jnp.full((3, 2), 10),
        dropout_seed=dropout_seed,
    )
    return jnp.sum(jax.nn.log_softmax(out.mlm_logits)[..., 7]) + jnp.sum(out.nsp_logits[..., 0] ** 2)


def value_and_grads(config, dropout_seed=None, precision="float32"):
    graphdef, params = split_params(Bert(config, nnx.Rngs(3), precision=precision_named(precision, "cpu")))
    return jax.jit(jax.value_and_grad(lambda p: loss(p, graphdef, dropout_seed)))(params)


def test_shapes_and_names():
    model = Bert(CONFIG, nnx.Rngs(0))
    out = model(np.ones((2, 16), int))
    assert out.sequence_output.shape == (2, 16, 32)
    assert out["pooled_output"].shape == (2, 32)
    assert out.mlm_logits.shape == (2, 16, 150)
    assert out.nsp_logits.shape == (2, 2)
    out = model(**rows(), masked_lm_positions=jnp.zeros((3, 4), int), cls_positions=jnp.zeros((3, 5), int))
    assert out.mlm_logits.shape == (3, 4, 256)
    assert out.nsp_logits.shape == (3, 5, 2)
    assert float(out.mlm_logits[..., 150:].max()) <= -1e29


def test_gathered_logits_are_those_of_the_positions():
    model = Bert(CONFIG, nnx.Rngs(0))
    positions = jnp.asarray([[0, 5], [7, 3], [2, 18]])
    gathered = model(**rows(), masked_lm_positions=positions).mlm_logits[..., :150]
    everywhere = model(**rows()).mlm_logits
    np.testing.assert_allclose(gathered, np.take_along_axis(everywhere, positions[:, :, None], 1), atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [{"scan_layers": False}, {"layers_per_scan_step": 2}, {"remat": "layer"}, {"remat": "save_matmuls"}],
    ids=lambda c: "-".join(f"{k}={v}" for k, v in c.items()),
)
def test_ways_of_running_the_layers_agree(change):
    """Scanned = unrolled, recomputed = not: float32 rounding is all that may differ, dropout on."""
    dropout_seed = DropoutSeed(jnp.uint32(1), jnp.uint32(2), jnp.arange(3, dtype=jnp.uint32))
    value, grads = value_and_grads(CONFIG, dropout_seed)
    other_value, other_grads = value_and_grads(dataclasses.replace(CONFIG, **change), dropout_seed)
    np.testing.assert_allclose(value, other_value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), grads, other_grads)


def test_attention_implementations_agree():
    value, grads = value_and_grads(WITHOUT_PROBS_DROPOUT)
    other_value, other_grads = value_and_grads(dataclasses.replace(WITHOUT_PROBS_DROPOUT, attention="dot_product"))
    np.testing.assert_allclose(value, other_value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), grads, other_grads)


def test_dot_product_refuses_dropout_on_probabilities():
    with pytest.raises(ConfigError, match="no dropout on attention"):
        Bert(dataclasses.replace(CONFIG, attention="dot_product"), nnx.Rngs(0))
    model = Bert(CONFIG, nnx.Rngs(0), attend=kernel("dot_product", FLOAT32))
    dropout_seed = DropoutSeed(jnp.uint32(1), jnp.uint32(2), jnp.arange(3, dtype=jnp.uint32))
    with pytest.raises(ValueError, match="no dropout on attention"):
        model(**rows(), dropout_seed=dropout_seed)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_stays_near_float32(precision):
    """Operands are rounded to 8 (bfloat16) or 11 bits: gradients within 3 % of each array's largest."""
    value, grads = value_and_grads(CONFIG)
    other_value, other_grads = value_and_grads(CONFIG, precision=precision)
    np.testing.assert_allclose(value, other_value, rtol=2e-2)
    # Key biases have a gradient of zero in theory: a softmax does not change when a constant is added.
    floor = 1e-2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=0.03 * float(jnp.abs(a).max()) + floor), grads, other_grads
    )


# Kernels for another machine, float type or head size cannot be compared here.
HERE = Demand(dropout=False, backend=jax.default_backend(), float_type="float32", head_size=1)


@pytest.mark.parametrize("attention", [name for name, row in KERNELS.items() if not HERE.lacking(row)])
@pytest.mark.parametrize("head", ["mlm", "nsp"])
def test_no_leakage_between_packed_examples(attention, head):
    """The gradient of one example's loss by the embedding output at another's positions is exactly zero."""
    model = Bert(dataclasses.replace(WITHOUT_PROBS_DROPOUT, attention=attention), nnx.Rngs(0))
    batch = rows()
    embedded = model.embeddings(
        batch["input_ids"],
        batch["token_type_ids"],
        batch["position_ids"],
        model.precision,
        None,
        model.lookup,
        model.replicate,
    )

    def second_example_loss(embedded):
        segments = SegmentIds(batch["example_ids"], batch["example_ids"])
        run = Pass(segments, None, model.precision, model.attend)
        x, _ = model.encoder(embedded, run, model.constrain, lambda *layer: None)
        pooled = model.pooler(x[:, 10:11], model.precision)  # [CLS] of the second example is at position 10
        encoded = Encoded(x, x[:, 12:15], pooled, model.embeddings.word_embeddings[...])
        if head == "nsp":
            return model.nsp_head(encoded, model.precision)[..., 0].sum()
        logits = model.mlm_head(encoded, model.precision).logits()
        return jax.nn.log_softmax(logits)[..., 9].sum()

    gradient = np.asarray(jax.grad(second_example_loss)(embedded))
    belongs = np.asarray(batch["example_ids"]) == 2
    assert np.all(gradient[~belongs] == 0.0)
    assert np.all(np.abs(gradient[belongs]).max(-1) > 0.0)


def test_padding_changes_nothing():
    model = Bert(CONFIG, nnx.Rngs(0))
    ids = np.arange(5, 17)[None, :]
    padded = np.concatenate([ids, np.zeros((1, 4), int)], axis=1)
    mask = (np.arange(16) < 12)[None, :].astype(int)
    out = model(padded, attention_mask=mask)
    np.testing.assert_allclose(out.sequence_output[:, :12], model(ids).sequence_output, atol=1e-5)


def test_sinusoidal_positions_have_no_parameters():
    config = dataclasses.replace(CONFIG, position_embedding_type="sinusoidal")
    _, params = split_params(Bert(config, nnx.Rngs(0)))
    assert "position_embeddings" not in params["embeddings"]
    swapped = [[4, 5, 6, 7], [5, 4, 6, 7]]
    out = Bert(config, nnx.Rngs(0))(np.asarray(swapped)).sequence_output
    assert np.abs(out[0, 2] - out[1, 2]).max() > 1e-4


def test_vocabulary_padding_gets_no_gradient():
    _, grads = value_and_grads(CONFIG)
    assert np.all(np.asarray(grads["embeddings"]["word_embeddings"])[150:] == 0)
    assert np.all(np.asarray(grads["mlm_head"]["bias"])[150:] == 0)


def test_initial_values():
    """Truncated at two standard deviations; what is left has a spread of .8796 of the given one."""
    config = dataclasses.replace(CONFIG, hidden_size=128, intermediate_size=512, initializer_range=0.02)
    _, params = split_params(Bert(config, nnx.Rngs(0)))
    kernel = np.asarray(params["encoder"]["layers"]["mlp"]["intermediate"]["kernel"])
    assert np.abs(kernel).max() <= 0.04
    assert abs(kernel.std() / 0.02 - 0.8796) < 0.01
    assert np.abs(kernel[0] - kernel[1]).max() > 0.01


@pytest.mark.parametrize("change", [{}, {"scan_layers": False}])
def test_gelu_forms_differ(change):
    value, _ = value_and_grads(CONFIG)
    other, _ = value_and_grads(dataclasses.replace(CONFIG, hidden_act="gelu_new", **change))
    assert 0 < abs(float(value - other)) < 0.1
