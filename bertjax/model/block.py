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
from bertjax.model.layers import ACTIVATIONS, LayerNorm, Linear
from bertjax.model.lean import activated_project
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
        self, x: jax.Array, run: Pass, site: jax.Array | int, window: int | None, num_positions: int | None = None
    ) -> jax.Array:
        """x [B, S, H] -> [B, S, H], or [B, num_positions, H]; ``site`` and ``site + 1`` number its two dropouts."""
        config, pre, segments = self.config, self.spec.norm == "pre", run.segments
        inputs = self.layer_norm(x) if pre else x
        key, value = (self._heads(project, inputs, run.precision) for project in (self.key, self.value))
        if num_positions is not None:
            x, inputs = x[:, :num_positions], inputs[:, :num_positions]
            segments = segments and SegmentIds(segments.query[:, :num_positions], segments.key)
        query = self._heads(self.query, inputs, run.precision)
        on_probabilities = dropout_at(site, config.attention_probs_dropout_prob, run.dropout_seed)
        mixed_BxSxNxD = run.attend(query, key, value, segments, window, on_probabilities)
        y = self.output(mixed_BxSxNxD.reshape(x.shape), run.precision)
        x = x + drop(y, dropout_at(site + 1, config.hidden_dropout_prob, run.dropout_seed))
        return x if pre else self.layer_norm(x)

    def probabilities(self, x: jax.Array, run: Pass, window: int | None) -> jax.Array:
        """The attention probabilities float32 [B, N, S, S] on input x [B, S, H], before any dropout."""
        x = self.layer_norm(x) if self.spec.norm == "pre" else x
        query, key = (
            self._heads(project, x, run.precision).transpose(0, 2, 1, 3) for project in (self.query, self.key)
        )
        return probabilities(query, key, run.segments, window, run.precision)

    def _heads(self, project: Linear, x: jax.Array, precision: Precision) -> jax.Array:
        """x [B, S, H], projected and split into heads [B, S, N, D]."""
        return project(x, precision).reshape(*x.shape[:2], self.config.num_attention_heads, -1)


class MLP(nnx.Module):
    """intermediate (H -> F), activation, output (F -> H)."""

    def __init__(self, config: ModelConfig, spec: BlockSpec, make: Maker):
        at = "bert.encoder.layer.{layer}"
        self.intermediate = Linear(make, "hidden", "mlp", bert=f"{at}.intermediate.dense")
        self.output = Linear(make, "mlp", "hidden", bert=f"{at}.output.dense")
        self.layer_norm = LayerNorm(make, config.layer_norm_eps, bert=f"{at}.output.LayerNorm")
        self.config, self.spec = config, spec

    def __call__(self, x: jax.Array, run: Pass, site: jax.Array | int) -> jax.Array:
        pre, config = self.spec.norm == "pre", self.config
        y = self.intermediate(self.layer_norm(x) if pre else x, run.precision)
        activation, output = ACTIVATIONS[config.hidden_act], self.output
        if run.precision.is_fp8:  # what is kept of the activation are its 8-bit values
            y = output(activation(y), run.precision)
        else:
            y = activated_project(activation, run.precision, y, output.kernel[...], output.bias[...])
        y = drop(y, dropout_at(site, config.hidden_dropout_prob, run.dropout_seed))
        return x + y if pre else self.layer_norm(x + y)


class Block(nnx.Module):
    """One layer, or with ``make.stacked("layers")`` the parameters of L layers, stacked on a leading axis."""

    def __init__(self, config: ModelConfig, spec: BlockSpec, make: Maker):
        self.attention = Attention(config, spec, make)
        self.mlp = MLP(config, spec, make)

    def __call__(
        self, x: jax.Array, run: Pass, index: jax.Array | int, window: int | None, num_positions: int | None = None
    ) -> jax.Array:
        """Layer number ``index`` on x [B, S, H] -> [B, S, H], or [B, num_positions, H]."""
        site = FIRST_LAYER_SITE + SITES_PER_LAYER * index
        return self.mlp(self.attention(x, run, site, window, num_positions), run, site + 2)
