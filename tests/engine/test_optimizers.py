"""Update rules against the same formulas written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from bertjax.config import ModelConfig, OptimizerConfig
from bertjax.engine.optimizers import OPTIMIZERS, decay_mask, make_optimizer, one_minus_power
from bertjax.errors import ConfigError, exit_code
from bertjax.finetune.trial_job import scale_by_rates
from bertjax.model.bert import Bert
from bertjax.model.parameters import ZEROS, ParameterSpec, parameter_specs
from bertjax.parallel.sharding import path_name

RANDOM = np.random.default_rng(0)


def params():
    draw = lambda *shape: RANDOM.normal(size=shape).astype(np.float32)
    return {
        "embeddings": {"word_embeddings": draw(6, 4), "layer_norm": {"scale": draw(4), "bias": draw(4)}},
        "encoder": {"layers": {"mlp": {"output": {"kernel": draw(2, 4, 4), "bias": draw(2, 4)}}}},
    }


def specs():
    """As the modules declare them: see tests/model/test_parameters.py."""
    spec = lambda decay, *axes: ParameterSpec(axes, ZEROS, decay, ())
    norm = {"scale": spec(False, "hidden"), "bias": spec(False, "hidden")}
    output = {"kernel": spec(True, "layers", "mlp", "hidden"), "bias": spec(False, "layers", "hidden")}
    return {
        "embeddings": {"word_embeddings": spec(True, "vocab", "hidden"), "layer_norm": norm},
        "encoder": {"layers": {"mlp": {"output": output}}},
    }


def test_decay_skips_biases_and_layer_norms():
    mask = decay_mask(parameter_specs(nnx.eval_shape(lambda: Bert(ModelConfig(), nnx.Rngs(0)))))
    assert mask["embeddings"]["word_embeddings"]
    assert mask["encoder"]["layers"]["mlp"]["output"] == {"kernel": True, "bias": False}
    assert mask["embeddings"]["layer_norm"] == {"scale": False, "bias": False}


def reference(w, grads, name, decays, stacked, config, rate):
    """Three updates of one array. Clipping is left out: the gradients come in clipped."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for count, g in enumerate(grads, start=1):
        m = config.beta1 * m + (1 - config.beta1) * g
        v = config.beta2 * v + (1 - config.beta2) * g**2
        correct = name != "bert2018"
        m_hat = m / (1 - config.beta1**count) if correct else m
        v_hat = v / (1 - config.beta2**count) if correct else v
        update = m_hat / (np.sqrt(v_hat) + config.eps)
        if decays:
            update = update + config.weight_decay * w
        if name == "lamb" and decays:
            axes = tuple(range(1 if stacked else 0, w.ndim))
            norm = lambda x, axes=axes: np.sqrt((x**2).sum(axes, keepdims=True))
            update = update * norm(w) / norm(update)
        w = w - rate * update
    return w


@pytest.mark.parametrize("name", ["bert2018", "adamw", "lamb"])
def test_updates_follow_the_formula(name):
    config = OptimizerConfig(name=name, clip_norm=1.0)
    rate = 0.01
    optimizer = make_optimizer(config, specs())
    start = params()
    raw = [jax.tree.map(lambda w: RANDOM.normal(size=w.shape).astype(np.float32), start) for _ in range(3)]
    clipped = []
    for grads in raw:
        norm = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads)))
        assert norm > 1
        clipped.append(jax.tree.map(lambda g, norm=norm: g / norm, grads))

    state, current = optimizer.init(start), start
    for grads in raw:
        updates, state = optimizer.update(grads, state, current)
        current = jax.tree.map(lambda w, u: w - jnp.float32(rate) * u, current, updates)

    decays = jax.tree.leaves(decay_mask(specs()))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(start)]
    per_step = [jax.tree.leaves(grads) for grads in clipped]
    for index, (w, path) in enumerate(zip(jax.tree.leaves(start), paths, strict=True)):
        grads = [leaves[index] for leaves in per_step]
        expected = reference(w, grads, name, decays[index], "layers" in path, config, rate)
        np.testing.assert_allclose(jax.tree.leaves(current)[index], expected, rtol=2e-5, atol=1e-6, err_msg=path)


def test_no_clipping_when_off():
    config = OptimizerConfig(name="bert2018", clip_norm=0.0, weight_decay=0.0, eps=1.0, beta1=0.0, beta2=1.0)
    optimizer = make_optimizer(config, specs())
    grads = jax.tree.map(lambda w: np.full_like(w, 100.0), params())
    updates, _ = optimizer.update(grads, optimizer.init(params()), params())
    jax.tree.map(lambda u: np.testing.assert_allclose(u, 100.0, rtol=1e-6), updates)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.98, 0.999])
def test_bias_correction_holds_from_the_first_update_on(decay):
    for count in (1, 2, 10, 1000, 100_000):
        exact = 1 - decay**count
        assert float(one_minus_power(decay, jnp.int32(count))) == pytest.approx(exact, rel=3e-7)


SIZES = {"vocab": 6, "hidden": 4, "mlp": 4, "layers": 2}


def fixed(axes):
    return np.random.default_rng(1).normal(size=[SIZES[axis] for axis in axes]).astype(np.float32)


def quadratic(name, **keys):
    """(parameters, the updates that bring them towards 0, the optimizer's state after them)."""
    config = OptimizerConfig(name=name, clip_norm=0.0, **keys)
    optimizer, start = make_optimizer(config, specs()), jax.tree.map(lambda spec: fixed(spec.axes), specs())
    updates, state = optimizer.update(start, optimizer.init(start), start)
    return start, updates, state


def test_muon_takes_the_matrices_of_the_layers_and_adamw_the_rest():
    start, updates, state = quadratic("muon", weight_decay=0.0)
    kernel = updates["encoder"]["layers"]["mlp"]["output"]["kernel"]
    for before, after in zip(start["encoder"]["layers"]["mlp"]["output"]["kernel"], kernel, strict=True):
        # Orthogonalised: singular values of about one, whatever those of the gradient were; 0.2 * sqrt(4) times that.
        values = np.linalg.svd(np.asarray(after), compute_uv=False) / 0.4
        assert values.min() > 0.3 and values.max() < 1.3
        assert np.sum(np.asarray(after) * before) > 0  # to be subtracted
    shapes = {path_name(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(state)}
    muon = [name for name in shapes if "/muon/" in name and name.endswith("kernel")]
    assert [shapes[name] for name in muon] == [(2, 4, 4)]  # one moment for the matrices
    assert not any(name.endswith("kernel") for name in shapes if "/adam/" in name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_is_masked_in_every_optimizer(name):
    without, decayed = (quadratic(name, weight_decay=decay)[1] for decay in (0.0, 0.5))
    changed = jax.tree.map(lambda a, b: not np.allclose(a, b), without, decayed)
    assert changed == decay_mask(specs())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_multipliers_for_each_layer_scale_every_optimizer(name):
    """As fine-tuning freezes the first layer of two."""
    rates = jax.tree.map(
        lambda spec: np.float32([0, 1]).reshape(2, *[1] * (len(spec.axes) - 1)) if spec.axes[0] == "layers" else 1.0,
        specs(),
    )
    optimizer = optax.chain(make_optimizer(OptimizerConfig(name=name), specs()), scale_by_rates(rates))
    updates, _ = optimizer.update(params(), optimizer.init(params()), params())
    kernel = np.asarray(updates["encoder"]["layers"]["mlp"]["output"]["kernel"])
    assert (kernel[0] == 0).all() and (kernel[1] != 0).all()


def test_an_unknown_name_is_one_line_with_those_that_there_are():
    allowed = ", ".join(sorted(OPTIMIZERS))
    with pytest.raises(ConfigError, match=rf"optimizer\.name = 'sgd'; allowed: {allowed}") as caught:
        make_optimizer(OptimizerConfig(name="sgd"), specs())
    assert exit_code(caught.value) == 2
