"""One layer of the encoder, as its spec says: attention and MLP, each with dropout, residual and layer norm."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
from flax import nnx

from bertjax.config import ModelConfig
from bertjax.errors import ConfigError
from bertjax.model.attention import Attend, SegmentIds
from bertjax.model.attention.explicit import probabilities
from bertjax.model.dropout import DropoutSeed, drop, dropout_at
from bertjax.model.layers import ACTIVATIONS, LayerNorm, Linear, projected
from bertjax.model.lean import Norm, activated_project
from bertjax.model.parameters import Maker
from bertjax.model.precision import Precision

SITES_PER_LAYER = 3  # dropout on attention probabilities, attention output, MLP output
FIRST_LAYER_SITE = 1  # site 0 is the embeddings


@dataclass(frozen=True)
class BlockSpec:
    """norm: where layer norms stand, "post" on the sum of residual and output (Vaswani et al. 2017), "pre" on what goes
    into attention and MLP, with one more after the last layer (Xiong et al. 2020). positions: "absolute" (learned) or
    "sinusoidal". windows: those of the layers of one period, which repeats over the depth; a token attends to tokens at
    most window // 2 places away, with None to all.

    Raises ConfigError for a value that is not implemented.
    """

    norm: str = "post"
    positions: str = "absolute"
    windows: tuple[int | None, ...] = (None,)

    def __post_init__(self):
        for name, known in (("norm", ("post", "pre")), ("positions", ("absolute", "sinusoidal"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} = {getattr(self, name)!r} is not implemented; use {' or '.join(known)}")
        if not self.windows or any(window is not None and window < 2 for window in self.windows):
            raise ConfigError(f"windows = {self.windows!r} must hold at least one of None or an integer from 2")


def bert(config: ModelConfig) -> BlockSpec:
    """The encoder of 2018."""
    return BlockSpec(positions=config.position_embedding_type)


class Pass(NamedTuple):
    """What a forward pass has for every layer alike; dropout is off without a seed."""

    segments: SegmentIds | None
    dropout_seed: DropoutSeed | None
    precision: Precision
    attend: Attend


class Attention(nnx.Module):
    """Multi-head self-attention with its output projection."""

    def __init__(self, config: ModelConfig, spec: BlockSpec, make: Maker):
        at = "bert.encoder.layer.{layer}.attention"
        self.query = Linear(make, "hidden", "heads", bert=f"{at}.self.query")
        self.key = Linear(make, "hidden", "heads", bert=f"{at}.self.key")
        self.value = Linear(make, "hidden", "heads", bert=f"{at}.self.value")
        self.output = Linear(make, "heads", "hidden", bert=f"{at}.output.dense")
        self.layer_norm = LayerNorm(make, config.layer_norm_eps, bert=f"{at}.output.LayerNorm")
        self.config, self.spec = config, spec

    def __call__(
        self,
        x: jax.Array,
        norm: Norm | None,
        run: Pass,
        site: jax.Array | int,
        window: int | None,
        num_positions: int | None = None,
    ) -> jax.Array:
        """x [B, S, H], not yet normed -> the sum of residual and output, [B, S, H] or [B, num_positions, H]; ``site``
        and ``site + 1`` number its two dropouts."""
        config, segments, eps = self.config, run.segments, self.config.layer_norm_eps
        if num_positions is None:
            y, query, key, value = projected(eps, run.precision, x, norm, self.query, self.key, self.value)
        else:
            y, key, value = projected(eps, run.precision, x, norm, self.key, self.value)
            x, y = x[:, :num_positions], y[:, :num_positions]
            query = self.query(y, run.precision)
            segments = segments and SegmentIds(segments.query[:, :num_positions], segments.key)
        on_probabilities = dropout_at(site, config.attention_probs_dropout_prob, run.dropout_seed)
        mixed_BxSxNxD = run.attend(*map(self._heads, (query, key, value)), segments, window, on_probabilities)
        out = self.output(mixed_BxSxNxD.reshape(y.shape), run.precision)
        residual = x if self.spec.norm == "pre" else y
        return residual + drop(out, dropout_at(site + 1, config.hidden_dropout_prob, run.dropout_seed))

    def probabilities(self, x: jax.Array, run: Pass, window: int | None) -> jax.Array:
        """The attention probabilities float32 [B, N, S, S] on input x [B, S, H], before any dropout."""
        x = self.layer_norm(x) if self.spec.norm == "pre" else x
        query, key = (self._heads(project(x, run.precision)).swapaxes(1, 2) for project in (self.query, self.key))
        return probabilities(query, key, run.segments, window, run.precision)

    def _heads(self, x: jax.Array) -> jax.Array:
        """[B, S, H] -> [B, S, N, D]"""
        return x.reshape(*x.shape[:2], self.config.num_attention_heads, -1)


class MLP(nnx.Module):
    """intermediate (H -> F), activation, output (F -> H)."""

    def __init__(self, config: ModelConfig, spec: BlockSpec, make: Maker):
        at = "bert.encoder.layer.{layer}"
        self.intermediate = Linear(make, "hidden", "mlp", bert=f"{at}.intermediate.dense")
        self.output = Linear(make, "mlp", "hidden", bert=f"{at}.output.dense")
        self.layer_norm = LayerNorm(make, config.layer_norm_eps, bert=f"{at}.output.LayerNorm")
        self.config, self.spec = config, spec

    def __call__(self, x: jax.Array, norm: Norm | None, run: Pass, site: jax.Array | int) -> jax.Array:
        """x [B, S, H], not yet normed -> the sum of residual and output [B, S, H]."""
        config, precision = self.config, run.precision
        y, inner = projected(config.layer_norm_eps, precision, x, norm, self.intermediate)
        activation = ACTIVATIONS[config.hidden_act]
        if precision.is_fp8:  # what is kept of the activation are its 8-bit values
            out = self.output(activation(inner), precision)
        else:
            out = activated_project(activation, precision, inner, *self.output.parameters)
        residual = x if self.spec.norm == "pre" else y
        return residual + drop(out, dropout_at(site, config.hidden_dropout_prob, run.dropout_seed))


class Block(nnx.Module):
    """One layer, or with ``make.stacked("layers")`` the parameters of L layers, stacked on a leading axis."""

    def __init__(self, config: ModelConfig, spec: BlockSpec, make: Maker):
        self.attention = Attention(config, spec, make)
        self.mlp = MLP(config, spec, make)
        self.spec = spec

    def __call__(
        self,
        x: jax.Array,
        norm: Norm | None,
        run: Pass,
        index: jax.Array | int,
        window: int | None,
        num_positions: int | None = None,
    ) -> tuple[jax.Array, Norm | None]:
        """Layer number ``index`` on x [B, S, H] -> [B, S, H], or [B, num_positions, H].

        With post-norm, x and the result are sums that ``norm``, or the norm that is returned, must still be applied to:
        whoever reads them does so, and keeps the sum alone for the backward pass. None: there is nothing to apply.
        """
        site = FIRST_LAYER_SITE + SITES_PER_LAYER * index
        of_attention, of_mlp = self.attention.layer_norm.parameters, self.mlp.layer_norm.parameters
        before = (of_attention, of_mlp) if self.spec.norm == "pre" else (norm, of_attention)
        x = self.attention(x, before[0], run, site, window, num_positions)
        x = self.mlp(x, before[1], run, site + 2)
        return x, None if self.spec.norm == "pre" else of_mlp
