"""The attention contract: windows and segments against masks written by hand, and how a kernel is chosen and added."""

import itertools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import softmax

from bertjax import attention_kernels
from bertjax.attention_kernels import KERNELS, Demand, Kernel, choose
from bertjax.config import ModelConfig
from bertjax.errors import ConfigError
from bertjax.finetune import settings
from bertjax.model.attention import SegmentIds, kernel, kernel_name
from bertjax.model.bert import Bert
from bertjax.model.dropout import DropoutSeed, drop, dropout_at
from bertjax.model.precision import FLOAT32

B, S, N, D = 2, 12, 3, 4
RANDOM = np.random.default_rng(0)
QUERY, KEY, VALUE = RANDOM.normal(size=(3, B, S, N, D)).astype(np.float32)
EXAMPLES = np.array([[1] * 5 + [2] * 4 + [0] * 3, [1] * 12])
# The rows that can be compared here; the others are for another machine or float type.
_HERE = Demand(dropout=False, backend=jax.default_backend(), float_type="float32", head_size=D)
SUPPORTED = [name for name, row in KERNELS.items() if not _HERE.lacking(row)]
PACKED = SegmentIds(jnp.asarray(EXAMPLES), jnp.asarray(EXAMPLES))


def by_hand(segments, window, keep=1.0, queries=S):
    """Every output [B, queries, N, D], one query at a time."""
    out = np.zeros((B, queries, N, D))
    for b, q, n in itertools.product(range(B), range(queries), range(N)):
        keys = [
            k
            for k in range(S)
            if (not segments or EXAMPLES[b, q] == EXAMPLES[b, k]) and (window is None or abs(q - k) <= window // 2)
        ]
        probabilities = softmax(KEY[b, keys, n] @ QUERY[b, q, n] / np.sqrt(D))
        out[b, q, n] = (probabilities * np.broadcast_to(keep, (B, N, S, S))[b, n, q, keys]) @ VALUE[b, keys, n]
    return out


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize("window", [None, 2, 6, 7, 100])
def test_kernels_are_the_formula(name, segments, window):
    if window is not None and not KERNELS[name].window:
        with pytest.raises(ValueError, match="no window"):
            kernel(name, FLOAT32)(QUERY, KEY, VALUE, None, window, None)
        return
    out = kernel(name, FLOAT32)(QUERY, KEY, VALUE, PACKED if segments else None, window, None)
    np.testing.assert_allclose(out, by_hand(segments, window), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SUPPORTED if KERNELS[name].dropout])
def test_dropout_is_the_mask_of_its_keys(name):
    dropout = dropout_at(4, 0.3, DropoutSeed(jnp.uint32(1), jnp.uint32(2), jnp.arange(B, dtype=jnp.uint32)))
    out = kernel(name, FLOAT32)(QUERY, KEY, VALUE, PACKED, 6, dropout)
    keep = np.asarray(drop(jnp.ones((B, N, S, S)), dropout))
    np.testing.assert_allclose(out, by_hand(True, 6, keep), atol=1e-5)


@pytest.mark.parametrize("name", SUPPORTED)
def test_fewer_queries_are_the_first_ones(name):
    segments, window = SegmentIds(PACKED.query[:, :3], PACKED.key), 4 if KERNELS[name].window else None
    out = kernel(name, FLOAT32)(QUERY[:, :3], KEY, VALUE, segments, window, None)
    np.testing.assert_allclose(out, by_hand(True, window, queries=3), atol=1e-5)


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("window", [None, 4])
def test_no_gradient_comes_from_outside_segment_and_window(name, window):
    window = window if KERNELS[name].window else None
    place = 6  # in the second example, 5 .. 8, of the first row

    def loss(key, value):
        return kernel(name, FLOAT32)(QUERY, key, value, PACKED, window, None)[0, place].sum()

    seen = {5, 6, 7, 8} & (set(range(S)) if window is None else {4, 5, 6, 7, 8})
    for gradient in jax.grad(loss, (0, 1))(jnp.asarray(KEY), jnp.asarray(VALUE)):
        assert {k for k in range(S) if np.any(gradient[0, k] != 0)} == seen
        assert np.all(np.asarray(gradient)[1] == 0)


def test_auto_takes_the_first_that_supports_what_is_asked(monkeypatch):
    rows = {"flash": Kernel(backends=("gpu",), head_multiple=8, float_types=("bfloat16",)), **KERNELS}
    del rows["fused"]
    monkeypatch.setattr(attention_kernels, "KERNELS", rows)
    fits = {"dropout": False, "backend": "gpu", "float_type": "bfloat16", "head_size": 64}
    assert choose("auto", Demand(**fits)) == "flash"
    for other in ({"dropout": True}, {"window": True}, {"backend": "cpu"}, {"float_type": "float32"}, {"head_size": 4}):
        assert choose("auto", Demand(**(fits | other))) == "explicit"
        with pytest.raises(ConfigError, match=r"^config\.model\.attention = 'flash' has no .*attention = 'explicit'"):
            choose("flash", Demand(**(fits | other)), "config.model.")
    assert choose("dot_product", Demand(**fits)) == "dot_product"


def test_a_refusal_names_the_ways_out():
    with pytest.raises(ConfigError) as refused:
        choose("dot_product", Demand(dropout=True, window=True), "config.model.")
    assert str(refused.value) == (
        "config.model.attention = 'dot_product' has no dropout on attention probabilities and no windows; set "
        "config.model.attention_probs_dropout_prob = 0.0 or config.model.attention = 'fused' or "
        "config.model.attention = 'explicit'"
    )


def test_a_kernel_is_one_file_and_one_row(monkeypatch):
    """The recipe: nothing else has to know of it."""
    calls = []

    def attend(query, key, value, segments, window, dropout, *, precision, backend):
        calls.append((segments is not None, window, dropout is not None))
        return kernel("explicit", precision, backend)(query, key, value, segments, window, dropout)

    file = types.ModuleType("bertjax.model.attention.mine")
    file.attend = attend
    monkeypatch.setitem(sys.modules, file.__name__, file)
    monkeypatch.setitem(KERNELS, "mine", Kernel(dropout=True))
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = ModelConfig(vocab_size=20, attention="mine", **sizes)
    assert kernel_name(config, FLOAT32) == "mine"
    Bert(config, nnx.Rngs(0))(np.ones((1, 4), int), example_ids=np.ones((1, 4), int))
    assert calls == [(True, None, False)]


def test_every_row_has_its_file_and_every_config_its_name():
    for name in KERNELS:
        assert callable(kernel(name, FLOAT32)) and kernel(name, FLOAT32) is kernel(name, FLOAT32)
    for kind in (ModelConfig, settings.EncoderConfig):
        assert kind.__dataclass_fields__["attention"].metadata["choices"] == ("auto", *KERNELS)
