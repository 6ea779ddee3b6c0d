"""The optimizers: one table of optax chains."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from flax import nnx

from bertjax.config import UpdateConfig
from bertjax.errors import ConfigError
from bertjax.model.bert import split_params
from bertjax.model.parameters import parameter_specs

# ``(decay, number of updates) -> what a running average is divided by``
Correction = Callable[[float, jax.Array], jax.Array | float]


def make_optimizer(config: UpdateConfig, specs: Any) -> optax.GradientTransformation:
    """Clipping by the global norm, then the row of ``OPTIMIZERS`` that ``config.name`` asks for.

    Its updates are subtracted from the parameters, times the learning rate.
    specs: what describes each parameter (``model.parameters``), as a nested dict; its ``decay`` and ``axes`` are read.
    Raises ConfigError for an unknown name.
    """
    check_optimizer(config.name)
    clip = [clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    return optax.chain(*clip, *OPTIMIZERS[config.name](config, specs))


def values_a_parameter(config: UpdateConfig, model: nnx.Module) -> float:
    """How many float32 numbers the optimizer keeps for each of a model's parameters, on average: two for Adam."""
    specs, params = parameter_specs(model), split_params(model)[1]
    state = jax.eval_shape(make_optimizer(config, specs).init, params)
    size = lambda tree: sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))
    return size(state) / size(params)


def check_optimizer(name: str) -> None:
    """Raises ConfigError for a name that is not in ``OPTIMIZERS``."""
    if name not in OPTIMIZERS:
        raise ConfigError(f"config.optimizer.name = {name!r}; allowed: {', '.join(sorted(OPTIMIZERS))}")


def clip_by_global_norm(limit: float) -> optax.GradientTransformationExtraArgs:
    """Gradients times limit / norm where their global norm is over ``limit``.

    Unlike ``optax.clip_by_global_norm`` it takes a norm that is known already, as the extra argument ``grad_norm``, and
    multiplies by one factor, which fuses into the update: on a CPU every pass over the parameters counts.
    """

    def update(updates: Any, state: Any, params: Any = None, *, grad_norm: jax.Array | None = None, **extra: Any):
        del params, extra
        norm = optax.tree.norm(updates) if grad_norm is None else grad_norm
        factor = jnp.where(norm < limit, 1.0, limit / norm)
        return jax.tree.map(lambda g: g * factor, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def decay_mask(specs: Any) -> Any:
    return jax.tree.map(lambda spec: spec.decay, specs)


def scale_by_adam(b1: float, b2: float, eps: float, bias_correction: Correction) -> optax.GradientTransformation:
    """m / (sqrt(v) + eps), m and v the running averages of the gradients and of their squares, corrected."""

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(count=jnp.zeros([], jnp.int32), mu=zeros(), nu=zeros())

    def update(updates: Any, state: Any, params: Any = None):
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1.0 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1.0 - b2) * jnp.square(g), state.nu, updates)
        of_mu, of_nu = bias_correction(b1, count), bias_correction(b2, count)
        updates = jax.tree.map(lambda m, v: (m / of_mu) / (jnp.sqrt(v / of_nu) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)


def one_minus_power(decay: float, count: jax.Array) -> jax.Array | float:
    """1 - decay ** count (Kingma & Ba 2015, algorithm 1), by expm1: taken from a power near 1 it would be 1e-5 off."""
    return -jnp.expm1(count.astype(jnp.float32) * math.log(decay)) if decay else 1.0


def scale_by_layer_trust_ratio(specs: Any) -> optax.GradientTransformation:
    """LAMB's ||w|| / ||update|| (You et al. 2019, algorithm 2), per tensor, and per layer where layers are stacked.
    Only for parameters that are decayed, as in NVIDIA's FusedLAMB; 1 where either norm is zero."""

    def scaled(u: jax.Array, w: jax.Array, spec: Any) -> jax.Array:
        if not spec.decay:
            return u
        axes = tuple(n for n, axis in enumerate(spec.axes) if axis != "layers")
        w_norm = jnp.sqrt(jnp.sum(jnp.square(w), axes, keepdims=True))
        u_norm = jnp.sqrt(jnp.sum(jnp.square(u), axes, keepdims=True))
        ratio = jnp.where((w_norm > 0) & (u_norm > 0), w_norm / jnp.where(u_norm > 0, u_norm, 1.0), 1.0)
        return u * ratio

    return optax.stateless(lambda updates, params: jax.tree.map(scaled, updates, params, specs))


def hidden_matrices(specs: Any) -> Any:
    """For Muon: which dimensions of the layers' kernels [L, in, out] are the matrix; None for all other parameters."""
    dimensions = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    return jax.tree.map(lambda spec: dimensions if spec.axes[0] == "layers" and len(spec.axes) == 3 else None, specs)


def _adam(c: UpdateConfig, correction: Correction) -> optax.GradientTransformation:
    return scale_by_adam(c.beta1, c.beta2, c.eps, correction)


def _decay(c: UpdateConfig, specs: Any) -> optax.GradientTransformation:
    """Decoupled weight decay, not on biases and layer norms; embeddings are decayed (google-research/bert
    optimization.py)."""
    return optax.add_decayed_weights(c.weight_decay, mask=decay_mask(specs))


# The transformations of each optimizer, without clipping and learning rate. Any transformation of optax fits: a bad
# step leaves its state as it was (``step.make_train_step``), and its arrays are divided and saved by their paths.
OPTIMIZERS: dict[str, Callable[[UpdateConfig, Any], list[optax.GradientTransformation]]] = {
    # Plain running averages (google-research/bert AdamWeightDecayOptimizer).
    "bert2018": lambda c, specs: [_adam(c, lambda decay, count: 1.0), _decay(c, specs)],
    "adamw": lambda c, specs: [_adam(c, one_minus_power), _decay(c, specs)],
    "lamb": lambda c, specs: [_adam(c, one_minus_power), _decay(c, specs), scale_by_layer_trust_ratio(specs)],
    # Kernels of the layers by Muon (Jordan 2024), all else by AdamW, with updates of one size (Liu et al. 2025,
    # arXiv:2502.16982), so that one learning rate serves both; it is -1 here, as updates are subtracted.
    "muon": lambda c, specs: [
        optax.contrib.muon(
            -1.0,
            beta=c.beta1,
            adam_b1=c.beta1,
            adam_b2=c.beta2,
            eps=c.eps,
            muon_weight_dimension_numbers=hidden_matrices(specs),
            consistent_rms=0.2,
        ),
        _decay(c, specs),
    ],
}
