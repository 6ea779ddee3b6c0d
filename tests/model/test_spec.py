"""What a spec can say beside the encoder of 2018: pre-norm, and windows that differ from layer to layer."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import erf, softmax

from bertjax.config import ModelConfig
from bertjax.errors import ConfigError
from bertjax.model.attention import SegmentIds
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.block import BlockSpec, Pass
from bertjax.model.dropout import DropoutSeed
from bertjax.model.parameters import parameter_specs

CONFIG = ModelConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=5,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=20,
    initializer_range=0.3,
)
IDS = np.random.default_rng(0).integers(0, 50, (2, 14))
EXAMPLES = np.array([[1] * 8 + [2] * 6, [1] * 14])
SEED = DropoutSeed(jnp.uint32(1), jnp.uint32(2), jnp.arange(2, dtype=jnp.uint32))
PRE, ALTERNATING = BlockSpec(norm="pre"), BlockSpec(windows=(None, 4))


def norm(x, weights):
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + CONFIG.layer_norm_eps) * weights["scale"]
        + weights["bias"]
    )


def affine(x, weights):
    return x @ weights["kernel"] + weights["bias"]


def layers_by_hand(x, params, spec):
    """x [S, H] of one example through all layers, in float64: the formulas, with the norms where the spec has them."""
    pre = spec.norm == "pre"
    for number in range(CONFIG.num_hidden_layers):
        layer = jax.tree.map(lambda p, n=number: p[n], params["layers"])
        attention, mlp, window = layer["attention"], layer["mlp"], spec.windows[number % len(spec.windows)]
        inputs = norm(x, attention["layer_norm"]) if pre else x
        query, key, value = (np.split(affine(inputs, attention[name]), 2, -1) for name in ("query", "key", "value"))
        place = np.arange(len(x))
        far = 0.0 if window is None else np.where(abs(place[:, None] - place[None]) > window // 2, -np.inf, 0.0)
        heads = [softmax(q @ k.T / math.sqrt(8) + far, -1) @ v for q, k, v in zip(query, key, value, strict=True)]
        x = x + affine(np.concatenate(heads, -1), attention["output"])
        x = x if pre else norm(x, attention["layer_norm"])
        inner = affine(norm(x, mlp["layer_norm"]) if pre else x, mlp["intermediate"])
        x = x + affine(inner * 0.5 * (1 + erf(inner / math.sqrt(2))), mlp["output"])
        x = x if pre else norm(x, mlp["layer_norm"])
    return norm(x, params["layer_norm"]) if pre else x


def shaken(model):
    """The model with no bias at zero and no scale at one."""
    graphdef, params = split_params(model)
    random = np.random.default_rng(1)
    return merge_params(
        graphdef, jax.tree.map(lambda p: p + 0.1 * random.normal(size=p.shape).astype(np.float32), params)
    )


@pytest.mark.parametrize("spec", [BlockSpec(), PRE, ALTERNATING, BlockSpec(norm="pre", windows=(6, None, 2))], ids=str)
def test_layers_are_the_formula(spec):
    model = shaken(Bert(CONFIG, nnx.Rngs(0), spec=spec))
    out = model(IDS, example_ids=EXAMPLES, output_hidden_states=True)
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), split_params(model)[1]["encoder"])
    embedded = np.asarray(out.hidden_states[0], np.float64)
    for row, example in ((0, 1), (0, 2), (1, 1)):
        own = EXAMPLES[row] == example
        expected = layers_by_hand(embedded[row, own], params, spec)
        np.testing.assert_allclose(out.sequence_output[row, own], expected, atol=2e-5)


def values_and_gradients(spec, **changes):
    graphdef, params = split_params(Bert(dataclasses.replace(CONFIG, **changes), nnx.Rngs(0), spec=spec))

    def loss(params):
        model = merge_params(graphdef, params)
        out = model(IDS, example_ids=EXAMPLES, dropout_seed=SEED, output_hidden_states=True, output_attentions=True)
        return (out.sequence_output**3).sum(), (out.hidden_states, out.attentions)

    (value, records), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return value, gradients, records


@pytest.mark.parametrize("windows", [(None, 4), (4, None, 2), (2,), (None, 2, 4, 6, 8, 10, 12)], ids=str)
def test_scanned_in_periods_is_unrolled(windows):
    """Five layers: periods that divide them, that leave some over, and one longer than all; dropout on."""
    spec = BlockSpec(norm="pre", windows=windows)
    unrolled = values_and_gradients(spec, scan_layers=False)
    for changes in ({}, {"remat": "layer"}):
        scanned = values_and_gradients(spec, **changes)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), scanned, unrolled)
    attentions = np.asarray(unrolled[2][1])
    for number in range(5):
        width = windows[number % len(windows)]
        far = [abs(i - j) > (99 if width is None else width // 2) for i in range(14) for j in range(14)]
        assert np.all(attentions[number].reshape(2, 2, -1)[..., far] == 0)


@pytest.mark.parametrize("spec", [PRE, ALTERNATING, BlockSpec(norm="pre", windows=(None, 2, 6))], ids=str)
@pytest.mark.parametrize("scan_layers", [True, False])
def test_the_first_positions_alone_are_the_same(spec, scan_layers):
    model = shaken(Bert(dataclasses.replace(CONFIG, scan_layers=scan_layers), nnx.Rngs(0), spec=spec))
    arguments = model.checked(IDS, example_ids=EXAMPLES)
    first = model.compute(**arguments, num_positions=3).sequence_output
    np.testing.assert_allclose(first, model.compute(**arguments).sequence_output[:, :3], atol=2e-5)


def test_a_window_holds_in_the_whole_encoder():
    """Through two layers a token hears of tokens twice half a window away, in its own example, and of no others."""
    config = dataclasses.replace(CONFIG, num_hidden_layers=2)
    model = Bert(config, nnx.Rngs(0), spec=BlockSpec(windows=(4,)))
    segments = SegmentIds(jnp.asarray(EXAMPLES), jnp.asarray(EXAMPLES))
    run = Pass(segments, None, model.precision, model.attend)

    def loss(x):
        return model.encoder(x, run, model.constrain, lambda *layer: None)[0][0, 6, 3]

    gradient = np.asarray(jax.grad(loss)(jnp.asarray(np.random.default_rng(2).normal(size=(2, 14, 16)), jnp.float32)))
    assert {s for s in range(14) if gradient[0, s].any()} == {2, 3, 4, 5, 6, 7}
    assert not gradient[1].any()


def test_pre_norm_adds_one_norm_and_the_2018_encoder_is_the_default():
    names = lambda spec: set(parameter_specs(nnx.eval_shape(lambda: Bert(CONFIG, nnx.Rngs(0), spec=spec)))["encoder"])
    assert names(None) == names(BlockSpec()) == {"layers"} and names(PRE) == {"layers", "layer_norm"}
    assert Bert(CONFIG, nnx.Rngs(0)).spec == BlockSpec()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"norm": "sandwich"}, "norm = 'sandwich' is not implemented; use post or pre"),
        ({"positions": "rotary"}, "positions = 'rotary' is not implemented; use absolute or sinusoidal"),
        ({"windows": ()}, r"windows = \(\) must hold at least one of None or an integer from 2"),
        ({"windows": (None, 1)}, r"windows = \(None, 1\) must hold"),
    ],
)
def test_what_is_not_implemented_is_refused(values, line):
    with pytest.raises(ConfigError, match=f"^{line}"):
        BlockSpec(**values)


def test_a_kernel_without_windows_is_refused():
    config = dataclasses.replace(CONFIG, attention="dot_product", attention_probs_dropout_prob=0.0)
    with pytest.raises(ConfigError, match=r"^attention = 'dot_product' has no windows; set attention = 'explicit'$"):
        Bert(config, nnx.Rngs(0), spec=ALTERNATING)
