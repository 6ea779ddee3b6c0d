"""Parameters describe themselves: declared once, where they are made; sharding, weight decay and interop read that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import unflatten_dict

from bertjax.config import ModelConfig


def padded_vocabulary(vocab_size: int) -> int:
    """``vocab_size`` rounded up to a multiple of 128: for full tiles, and so that it divides over devices."""
    return -(-vocab_size // 128) * 128


def axis_sizes(config: ModelConfig) -> dict[str, int]:
    """Logical axis -> its size. ``heads`` are all heads side by side, ``layers`` are stacked."""
    return {
        "layers": config.num_hidden_layers,
        "vocab": padded_vocabulary(config.vocab_size),
        "positions": config.max_position_embeddings,
        "types": config.type_vocab_size,
        "hidden": config.hidden_size,
        "heads": config.hidden_size,
        "mlp": config.intermediate_size,
    }


@dataclass(frozen=True)
class Init:
    """How a parameter starts: at ``value``, or with a ``stddev`` normal, redrawn beyond two of them as by
    ``tf.truncated_normal_initializer``, and zero from row ``rows`` on. Hashable by value, for jit's cache keys.

    The spread of what remains is .88 ``stddev``; the 2018 code does not correct for it, so neither do we.
    """

    value: float = 0.0
    stddev: float | None = None
    rows: int | None = None

    def __call__(self, rngs: nnx.Rngs, shape: tuple[int, ...]) -> jax.Array:
        if self.stddev is None:
            return jnp.full(shape, self.value, jnp.float32)
        values = self.stddev * jax.random.truncated_normal(rngs.params(), -2.0, 2.0, shape, jnp.float32)
        return values if self.rows is None else jnp.where(jnp.arange(shape[0])[:, None] < self.rows, values, 0.0)


ZEROS, ONES = Init(), Init(1.0)


@dataclass(frozen=True)
class ParameterSpec:
    """What there is to know of a parameter beside its values.

    axes: the logical name of each dimension (``axis_sizes``). decay: whether weight decay applies. names: (model
    type, tensor in the Hugging Face layout); ``{layer}`` stands for the number of a stacked layer. transposed: PyTorch
    stores it as [out, in].
    """

    axes: tuple[str, ...]
    init: Init
    decay: bool
    names: tuple[tuple[str, str], ...]
    transposed: bool = False


@dataclass(frozen=True)
class Maker:
    """Makes the parameters of a model. stack: axes in front of those that are declared, such as ("layers",). is_fp8:
    whether kernels have a history of scaling beside them (``model.fp8``)."""

    sizes: Mapping[str, int]
    stddev: float
    rngs: nnx.Rngs
    stack: tuple[str, ...] = ()
    is_fp8: bool = False

    def stacked(self, axis: str) -> Maker:
        return dataclasses.replace(self, stack=(axis, *self.stack))

    def sized(self, **sizes: int) -> Maker:
        """With sizes of more axes."""
        return dataclasses.replace(self, sizes={**self.sizes, **sizes})

    def __call__(
        self,
        axes: tuple[str, ...],
        init: Init,
        *,
        decay: bool,
        transposed: bool = False,
        suffix: str = "",
        **names: str,
    ) -> nnx.Param:
        """A new parameter with its ``ParameterSpec``. names: by model type, each without its ``suffix``."""
        full_names = tuple((kind, name + suffix) for kind, name in names.items())
        spec = ParameterSpec((*self.stack, *axes), init, decay, full_names, transposed)
        return nnx.Param(init(self.rngs, tuple(self.sizes[axis] for axis in spec.axes)), spec=spec)


def parameter_specs(model: nnx.Module) -> dict[str, Any]:
    """Nested dict of the ParameterSpecs of a model, which may be abstract (``nnx.eval_shape``). Raises TypeError that
    names a parameter which no ``Maker`` made."""
    specs = {path: variable.get_metadata().get("spec") for path, variable in nnx.to_flat_state(nnx.state(model))}
    for path, spec in specs.items():
        if not isinstance(spec, ParameterSpec):
            raise TypeError(f"parameter {'/'.join(map(str, path))} does not describe itself; make it with a Maker")
    return unflatten_dict(specs)
