"""The memory that one more row takes in a training step, from what autodiff keeps of it."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import nnx

from bertjax.batch import FIELDS, Field, shapes
from bertjax.config import ModelConfig
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.dropout import DropoutSeed
from bertjax.model.heads import PRETRAINING_HEADS
from bertjax.model.parameters import padded_vocabulary
from bertjax.model.precision import precision_named

# ``(output of the model, batch) -> scalar``
Loss = Callable[[Any, dict[str, jax.Array]], jax.Array]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What is trained, as far as memory goes. loss: what is minimised; heads, fields: those of its objective.
    optimizer_values: numbers that the optimizer keeps for a parameter, such as two moments."""

    model: ModelConfig
    precision: str
    loss: Loss
    optimizer_values: float
    heads: tuple[str, ...] = PRETRAINING_HEADS
    fields: tuple[tuple[str, Field], ...] = tuple(FIELDS.items())


@functools.lru_cache(maxsize=256)
def activation_bytes_per_row(
    trained: Trained, platform: str, length: int, predictions: int, examples: int, tensor: int = 1
) -> int:
    """Bytes of a device's memory that one more row of ``length`` tokens takes in a training step.

    What ``jax.vjp`` of the loss keeps of two rows less what it keeps of one, so that parameters and copies of them drop
    out, and on top the larger of two: what the heads keep and their cotangents, or the cotangents of one layer and,
    where layers are computed again, what it keeps meanwhile. tensor: size of the mesh axis that divides heads, the MLP
    and the vocabulary.
    """
    row = (platform, length, max(predictions, 1), examples, tensor)  # a head takes no row without any prediction
    model, L = trained.model, trained.model.num_hidden_layers
    # Layers are alike, so that two tell of any number.
    one, two = (_kept(_with(trained, num_hidden_layers=n), *row) for n in (1, 2))
    in_layer = two - one
    if model.remat != "none":
        whole = [_kept(_with(trained, num_hidden_layers=n, remat="none"), *row) for n in (1, 2)]
        in_layer = whole[1] - whole[0]
    computed_again = in_layer if model.remat != "none" else 0
    in_heads = max(0, 2 * one - two)
    return L * (two - one) + max(2 * in_heads, computed_again + in_layer)


def _with(trained: Trained, **changes: Any) -> Trained:
    return dataclasses.replace(trained, model=dataclasses.replace(trained.model, scan_layers=False, **changes))


def _kept(trained: Trained, platform: str, length: int, predictions: int, examples: int, tensor: int) -> int:
    """Bytes that the backward pass keeps of one more row."""
    precision = precision_named(trained.precision, platform)
    new = lambda: Bert(trained.model, nnx.Rngs(0), heads=trained.heads, precision=precision, backend=platform)
    graphdef, params = split_params(nnx.eval_shape(new))

    def residuals(params: Any, batch: Any, dropout_seed: DropoutSeed) -> list[jax.Array]:
        of_params = lambda params: trained.loss(merge_params(graphdef, params).on_batch(batch, dropout_seed), batch)
        return jax.tree.leaves(jax.vjp(of_params, params)[1])

    def of(rows: int) -> int:
        fields = shapes(rows, length, predictions, examples, dict(trained.fields))
        batch = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in fields.items()}
        numbers: list[Any] = [jax.ShapeDtypeStruct(shape, "uint32") for shape in ((), (), (rows,))]
        with jax.disable_jit():  # nested functions would hide what their results are made of
            program = jax.make_jaxpr(residuals)(params, batch, DropoutSeed(*numbers)).jaxpr
        arrays = _distinct(program) if platform in _FUSING else ((x.aval, n) for n, x in enumerate(program.outvars))
        kept: dict[int, int] = {}
        for x, origin in arrays:
            size = math.prod(x.shape) * x.dtype.itemsize // _parts(x.shape, trained.model, tensor)
            kept[origin] = max(size, kept.get(origin, 0))
        return sum(kept.values())

    return of(2) - of(1)


# Whose compilers compute cheap things again inside a fusion; that for CPUs takes as much as autodiff's list in full.
_FUSING = ("tpu", "gpu")
_BY_ELEMENT = (
    *("reshape", "squeeze", "expand_dims", "convert_element_type", "copy", "stop_gradient", "neg", "exp", "tanh"),
    *("add", "sub", "mul", "div", "integer_pow", "square", "select_n", "eq", "ne", "lt", "le", "gt", "ge", "and", "or"),
)


def _distinct(program: Any) -> Iterator[tuple[Any, int]]:
    """(Shape and dtype of an output, number of the array that it is made of element by element).

    The compiler keeps one array for all of these: views, such as the input of query, key and value, and functions of
    it and of smaller arrays, such as the exponentials of scores less their maximum. Outputs made of smaller arrays
    alone, such as masks, are not kept at all.
    """
    makers = {id(made): equation for equation in program.eqns for made in equation.outvars}

    def large(variable: Any) -> list[Any]:
        """The inputs with as many elements as the variable that its maker, if it goes by element, takes."""
        size = lambda x: math.prod(x.aval.shape)
        found = [x for x in makers[id(variable)].invars if size(x) == size(variable)]
        return [x for x in found if id(x) not in makers or makers[id(x)].primitive.name != "broadcast_in_dim"]

    for output in program.outvars:
        variable, made_of = output, [output]
        while id(variable) in makers and makers[id(variable)].primitive.name in _BY_ELEMENT:
            made_of = large(variable)
            if len(made_of) != 1:
                break
            variable = made_of[0]
        is_broadcast = id(variable) in makers and makers[id(variable)].primitive.name == "broadcast_in_dim"
        if made_of and not is_broadcast:
            yield output.aval, id(variable)


def _parts(shape: tuple[int, ...], model: ModelConfig, tensor: int) -> int:
    """Devices that an array of this shape is divided over by the tensor axis: those with heads, MLP or vocabulary. What
    is not known from its shape, such as the concatenated heads [B S, H], counts as whole on each of them."""
    has_heads = len(shape) >= 4 and shape[-3] == model.num_attention_heads
    wide = {model.intermediate_size, padded_vocabulary(model.vocab_size)} - {model.hidden_size}
    return tensor if has_heads or (shape and shape[-1] in wide) else 1
