"""Memory that training takes: of the state by formula, of a row from the shapes that the step itself keeps."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from bertjax.batch import shapes
from bertjax.config import ModelConfig
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.dropout import DropoutSeed
from bertjax.model.flops import parameter_count
from bertjax.model.parameters import padded_vocabulary
from bertjax.model.precision import precision_named

# ``(output of the model, batch) -> scalar``
Loss = Callable[[Any, dict[str, jax.Array]], jax.Array]

# float32 values a parameter: weight, gradient and two moments.
VALUES_A_PARAMETER = 4


def state_bytes(model: ModelConfig, divided: int) -> int:
    """Bytes a device of weights, gradients and moments that are divided over so many devices."""
    return 4 * VALUES_A_PARAMETER * parameter_count(model) // divided


@functools.lru_cache(maxsize=256)
def activation_bytes_per_row(
    model: ModelConfig,
    precision: str,
    platform: str,
    length: int,
    predictions: int,
    examples: int,
    loss: Loss,
    tensor: int = 1,
) -> int:
    """Bytes that a device keeps for the backward pass for one more row of ``length`` tokens.

    What ``jax.vjp`` of the loss keeps of two rows less what it keeps of one: parameters, and copies of them in another
    dtype, drop out. Where layers are computed again, one layer of what they would keep otherwise comes on top.
    tensor: size of the mesh axis that divides heads, the MLP and the vocabulary.
    """
    fields = lambda rows: shapes(rows, length, max(predictions, 1), examples)  # a head takes no row without any

    def of(model: ModelConfig) -> int:
        made = nnx.eval_shape(lambda: Bert(model, nnx.Rngs(0), precision=precision_named(precision, platform)))
        graphdef, params = split_params(made)

        def backward(params: Any, batch: Any, dropout_seed: DropoutSeed) -> Any:
            of_params = lambda params: loss(merge_params(graphdef, params).on_batch(batch, dropout_seed), batch)
            return jax.vjp(of_params, params)[1]

        def kept(rows: int) -> int:
            batch = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in fields(rows).items()}
            numbers: list[Any] = [jax.ShapeDtypeStruct(shape, "uint32") for shape in ((), (), (rows,))]
            leaves = jax.tree.leaves(jax.eval_shape(backward, params, batch, DropoutSeed(*numbers)))
            return sum(math.prod(x.shape) * x.dtype.itemsize // _parts(x.shape, model, tensor) for x in leaves)

        return kept(2) - kept(1)

    L, alone = model.num_hidden_layers, model.remat == "none" and (model.scan_layers or model.num_hidden_layers < 3)
    if alone:
        return of(model)
    # Layers are alike, so that two tell of any number; unrolled ones would take long to trace.
    one, two = (of(dataclasses.replace(model, num_hidden_layers=n)) for n in (1, 2))
    kept = one + (L - 1) * (two - one)
    if model.remat == "none":
        return kept
    whole = [dataclasses.replace(model, remat="none", scan_layers=False, num_hidden_layers=n) for n in (1, 2)]
    return kept + of(whole[1]) - of(whole[0])


def _parts(shape: tuple[int, ...], model: ModelConfig, tensor: int) -> int:
    """Devices that an array of this shape is divided over by the tensor axis: those with heads, MLP or vocabulary.

    What is not known from its shape, such as the concatenated heads [B S, H], counts as whole on each of them.
    """
    has_heads = len(shape) >= 4 and shape[-3] == model.num_attention_heads
    wide = {model.intermediate_size, padded_vocabulary(model.vocab_size)} - {model.hidden_size}
    return tensor if has_heads or (shape and shape[-1] in wide) else 1
