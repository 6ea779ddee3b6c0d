"""The attention contract: windows and segments against masks written by hand, and how a kernel is chosen and added."""

import importlib.util
import itertools
import sys
import types
from dataclasses import replace

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
from bertjax.model.attention import SegmentIds, allowed, kernel, kernel_name
from bertjax.model.bert import Bert
from bertjax.model.dropout import DropoutSeed, drop, dropout_at
from bertjax.model.precision import FLOAT32, precision_named

B, S, N, D = 2, 12, 3, 4
RANDOM = np.random.default_rng(0)
QUERY, KEY, VALUE = RANDOM.normal(size=(3, B, S, N, D)).astype(np.float32)
EXAMPLES = np.array([[1] * 5 + [2] * 4 + [0] * 3, [1] * 12])
# The rows that can be compared here, on a CPU also those that have an interpreter for tests.
_HERE = Demand(dropout=False, backend=jax.default_backend(), float_type="float32", head_size=D)
_INTERPRETED = ["fused", "splash"] if jax.default_backend() == "cpu" else []
_INTERPRETED += ["tokamax"] if _INTERPRETED and importlib.util.find_spec("tokamax") else []
SUPPORTED = [*(name for name, row in KERNELS.items() if not _HERE.lacking(row)), *_INTERPRETED]
_BFLOAT16 = ("bfloat16",)
_HALF = Demand(dropout=False, backend=jax.default_backend(), float_type="bfloat16", head_size=64)
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


@pytest.mark.parametrize("name", [name for name, row in KERNELS.items() if not _HALF.lacking(row)])
@pytest.mark.parametrize("window", [None, 16])
def test_kernels_in_bfloat16_follow_explicit_and_leak_nothing(name, window):
    """On a GPU or TPU this is the test of the rows that have no float32."""
    if window is not None and not KERNELS[name].window:
        pytest.skip("no windows")
    query, key, value = RANDOM.normal(size=(3, 2, 128, 2, 64)).astype(np.float32)
    ids = jnp.repeat(jnp.array([[1] * 60 + [2] * 50 + [0] * 18]), 2, axis=0)
    lower = precision_named("bfloat16", jax.default_backend())
    run = lambda name, precision: lambda *x: kernel(name, precision)(*x, SegmentIds(ids, ids), window, None)
    exact, got = run("explicit", FLOAT32)(query, key, value), run(name, lower)(query, key, value)
    np.testing.assert_allclose(np.asarray(got, np.float32), exact, atol=0.02)
    of_second = lambda *x: run(name, lower)(*x)[:, 60:110].astype(jnp.float32).sum()
    for gradient in jax.grad(of_second, (1, 2))(*map(jnp.asarray, (query, key, value))):
        assert np.all(np.asarray(gradient)[:, :60] == 0) and np.all(np.asarray(gradient)[:, 110:] == 0)
        assert np.any(np.asarray(gradient)[:, 60:110] != 0)


def test_auto_takes_the_first_that_supports_what_is_asked(monkeypatch):
    flash = Kernel(backends=("gpu",), head_multiple=8, largest_head=64, longest_row={"gpu": 512}, float_types=_BFLOAT16)
    rows = {"flash": flash, **{name: KERNELS[name] for name in ("explicit", "dot_product")}}
    monkeypatch.setattr(attention_kernels, "KERNELS", rows)
    fits = {"dropout": False, "backend": "gpu", "float_type": "bfloat16", "head_size": 64}
    assert choose("auto", Demand(**fits)) == "flash"
    others = ({"dropout": True}, {"window": True}, {"backend": "cpu"}, {"float_type": "float32"}, {"head_size": 4})
    for other in (*others, {"head_size": 72}, {"length": 513}):
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


@pytest.mark.parametrize(
    ("demand", "taken"),
    [
        (Demand(True, True, True, "tpu", "float32", 64, 8192), "fused"),
        (Demand(True, True, True, "gpu", "bfloat16", 96, 8192), "fused"),
        (Demand(True, True, False, "tpu", "bfloat16", 256, 512), "explicit"),
        (Demand(False, True, True, "tpu", "bfloat16", 64, 32768), "splash"),
        (Demand(False, True, True, "tpu", "float32", 64, 32768), "explicit"),
        (Demand(False, True, True, "cpu", "bfloat16", 64, 512), "explicit"),
    ],
)
def test_auto_by_backend_length_dropout_window_and_floats(demand, taken):
    assert choose("auto", demand) == taken


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(KERNELS, "tokamax", replace(KERNELS["tokamax"], package="not_installed"))
    with pytest.raises(ConfigError, match="'tokamax' has no package to run it: pip install not_installed"):
        choose("tokamax", Demand(dropout=False))
    monkeypatch.setitem(sys.modules, "tokamax._src.ops.attention.api", None)  # a version without what it needs
    monkeypatch.delitem(sys.modules, "bertjax.model.attention.tokamax", raising=False)
    kernel.cache_clear()
    with pytest.raises(ConfigError, match=r"^attention = 'tokamax' does not run with the installed packages: "):
        kernel("tokamax", FLOAT32)


def test_intervals_of_tokamax(monkeypatch):
    """Its file is read without the package: the intervals are this repository's."""
    if not importlib.util.find_spec("tokamax"):
        for name in ("api", "base"):
            stub = types.ModuleType(f"tokamax._src.ops.attention.{name}")
            stub.IMPLEMENTATIONS = stub.Mask = None
            monkeypatch.setitem(sys.modules, stub.__name__, stub)
        for parent in ("tokamax", "tokamax._src", "tokamax._src.ops", "tokamax._src.ops.attention"):
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.delitem(sys.modules, "bertjax.model.attention.tokamax", raising=False)
    intervals = importlib.import_module("bertjax.model.attention.tokamax").intervals
    del sys.modules["bertjax.model.attention.tokamax"]
    for window in (None, 2, 6, 100):
        start, end, holes = (np.broadcast_to(x, (B, S)) for x in intervals(S, S, PACKED, window))
        between = (np.arange(S) >= start[..., None]) & (np.arange(S) < end[..., None])
        np.testing.assert_array_equal(between, np.asarray(allowed(S, S, PACKED, window))[:, 0])
        assert not holes.any()
    mask = SegmentIds(jnp.ones((1, 4), jnp.int32), jnp.array([[1, 0, 1, 0]]))
    start, end, holes = intervals(4, 4, mask, None)
    assert holes.all()  # a key between two others is masked: no interval says that
    start, end, holes = intervals(4, 4, SegmentIds(mask.query, 0 * mask.key), None)
    assert (np.asarray(start) == 0).all() and (np.asarray(end) == 0).all() and not holes.any()


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
    for name, row in KERNELS.items():
        if row.package is None or importlib.util.find_spec(row.package):
            assert callable(kernel(name, FLOAT32)) and kernel(name, FLOAT32) is kernel(name, FLOAT32)
    for kind in (ModelConfig, settings.EncoderConfig):
        assert kind.__dataclass_fields__["attention"].metadata["choices"] == ("auto", *KERNELS)
