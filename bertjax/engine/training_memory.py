"""The memory that training takes, by formulas and shapes; whether model and batches fit, before they are built."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from bertjax.batch import shapes
from bertjax.config import ModelConfig
from bertjax.engine.dispatch import batches_held
from bertjax.errors import ConfigError
from bertjax.memory import host_memory
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.dropout import DropoutSeed
from bertjax.model.flops import parameter_count
from bertjax.model.parameters import padded_vocabulary
from bertjax.model.precision import precision_named
from bertjax.parallel.devices import GIB, memory_limit
from bertjax.parallel.mesh import batch_shards, divisors, one_of

# ``(output of the model, batch) -> scalar``
Loss = Callable[[Any, dict[str, jax.Array]], jax.Array]

# float32 values a parameter: weight, gradient and two moments.
VALUES_A_PARAMETER = 4
# Part of the host's memory that they may take.
BATCHES_SHARE = 0.5
# Part of a device's memory, beside the state, that the activations of one accumulation step may take. They are known to
# some percent; the rest is for what the backward pass computes on the way, and for the program itself.
ACTIVATION_SHARE = 0.7


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

    L = model.num_hidden_layers
    if model.remat == "none" and (model.scan_layers or L < 3):
        return of(model)
    # Layers are alike, so that two tell of any number; unrolled ones would take long to trace.
    one, two = (of(dataclasses.replace(model, num_hidden_layers=n)) for n in (1, 2))
    kept = one + (L - 1) * (two - one)
    if model.remat == "none":
        return kept
    whole = [dataclasses.replace(model, remat="none", scan_layers=False, num_hidden_layers=n) for n in (1, 2)]
    return kept + of(whole[1]) - of(whole[0])


def _parts(shape: tuple[int, ...], model: ModelConfig, tensor: int) -> int:
    """Devices that an array of this shape is divided over by the tensor axis: those with heads, MLP or vocabulary. What
    is not known from its shape, such as the concatenated heads [B S, H], counts as whole on each of them."""
    has_heads = len(shape) >= 4 and shape[-3] == model.num_attention_heads
    wide = {model.intermediate_size, padded_vocabulary(model.vocab_size)} - {model.hidden_size}
    return tensor if has_heads or (shape and shape[-1] in wide) else 1


def check_model(
    model: ModelConfig, precision: str, mesh: Mesh, row: tuple[int, int, int], loss: Loss, times: int = 1
) -> None:
    """Raises ConfigError if training the model on a single row takes more than ``times`` a device's memory. row: its
    length, predictions and examples. loss: what is minimised."""
    device = own_device(mesh)
    limit = times * memory_limit(device)
    needed = lambda model, divided: (
        state_bytes(model, divided)
        + _row_bytes(model, precision, device.platform, row, loss, mesh.shape["tensor"], limit)
    )
    divided = mesh.shape["fsdp"] * mesh.shape["tensor"]
    if needed(model, divided) <= limit:
        return
    ways = list(_ways_out(model, row[0], lambda changed: needed(changed, divided) <= limit))
    if mesh.shape["fsdp"] == 1 and mesh.size > 1 and needed(model, mesh.size) <= limit:
        ways.append("--config.parallel.data=1 --config.parallel.fsdp=-1")
    state, activations = state_bytes(model, divided), needed(model, divided) - state_bytes(model, divided)
    would = f"{' or '.join(ways)} would fit" if ways else "take a smaller config.model, or larger devices"
    raise ConfigError(
        f"the model of {parameter_count(model):,} parameters does not fit: {_gib(state)} a device for weights, "
        f"gradients and moments, and at least {_gib(activations)} for a row of {row[0]:,} tokens, "
        f"of {_gib(limit // times)}; {would}"
    )


def check_batch(
    key: str, batch_size: int, row: tuple[int, int, int], mesh: Mesh, prefetch: int, times: int = 1, ahead: int = 1
) -> None:
    """Raises ConfigError if the batches made ahead do not fit in the memory of the host and of the devices. ahead:
    steps that are dispatched before the metrics of one are read."""
    of_row = sum(math.prod(shape) * dtype.itemsize for shape, dtype in shapes(1, *row).values())
    own = max(1, len({d.process_index for d in mesh.devices.flat}))  # each process makes its part
    limits = {
        "this machine": times * host_memory() * BATCHES_SHARE * own / of_row,
        "the devices": times * memory_limit(own_device(mesh)) * batch_shards(mesh) / of_row,
    }
    where, rows = min(limits.items(), key=lambda limit: limit[1])
    more, shards = batches_held(ahead), batch_shards(mesh)
    ready = prefetch + more
    if batch_size * ready <= rows:
        return
    if batch_size * (1 + more) <= rows:
        raise ConfigError(
            f"config.data.prefetch = {prefetch} batches of {batch_size * of_row / GIB:.2g} GiB each do not fit in "
            f"the memory of {where}; {int(rows) // batch_size - more} would"
        )
    raise ConfigError(
        f"{key} = {batch_size:,} rows of {row[0]:,} tokens take {_gib(batch_size * of_row * ready)} of the "
        f"memory of {where}, where they do not fit; {max(shards, int(rows) // ready // shards * shards):,} would"
    )


def _ways_out(model: ModelConfig, length: int, fits: Callable[[ModelConfig], bool]) -> Iterator[str]:
    """Overrides of a single size, to what BERT-base has, with which it is a model for such a row and fits."""
    usual = ModelConfig()
    for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "max_position_embeddings"):
        value = getattr(usual, name)
        changed = dataclasses.replace(model, **{name: value})
        is_model = changed.hidden_size % changed.num_attention_heads == 0 and changed.max_position_embeddings >= length
        if value < getattr(model, name) and is_model and fits(changed):
            yield f"--config.model.{name}={value}"


def _row_bytes(
    model: ModelConfig, precision: str, platform: str, row: tuple[int, int, int], loss: Loss, tensor: int, limit: int
) -> int:
    """What the backward pass keeps of a row; of one that is far beyond ``limit``, the least that it can be."""
    length, predictions, _ = row
    scores = model.num_attention_heads * length**2
    least = 2 * (model.num_hidden_layers * length * model.hidden_size + length * model.intermediate_size + scores)
    least = (least + 4 * predictions * model.vocab_size) // tensor
    if least > limit or state_bytes(model, tensor) > jax.device_count() * limit:
        return least
    return activation_bytes_per_row(model, precision, platform, *row, loss, tensor)


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f} GiB"


def check_divides(model: ModelConfig, mesh: Mesh) -> None:
    """Raises ConfigError if an axis of the mesh does not divide the sizes that it shards."""
    divided = {
        "fsdp": {"hidden_size": model.hidden_size},
        "tensor": {
            "num_attention_heads": model.num_attention_heads,
            "intermediate_size": model.intermediate_size,
            "padded vocab_size": padded_vocabulary(model.vocab_size),
        },
    }
    for axis, sizes in divided.items():
        if any(size % mesh.shape[axis] for size in sizes.values()):
            what = ", ".join(f"{name} = {size}" for name, size in sizes.items())
            would = one_of([n for n in divisors(math.gcd(*sizes.values())) if mesh.size % n == 0])
            raise ConfigError(
                f"config.parallel.{axis} = {mesh.shape[axis]} does not divide the model ({what}); "
                f"on {mesh.size} devices {would} would"
            )


def parts_of(rows: int, most: int) -> int:
    """The smallest number of equal parts of ``rows`` that are no larger than ``most``."""
    return next(parts for parts in range(1, rows + 1) if rows % parts == 0 and rows // parts <= max(1, most))


def rows_that_fit(model: ModelConfig, precision: str, mesh: Mesh, row: tuple[int, int, int], loss: Loss) -> int:
    """Rows that one device can work on at once, by what the backward pass keeps of each. row: as for check_model."""
    device, tensor = own_device(mesh), mesh.shape["tensor"]
    left = memory_limit(device) - state_bytes(model, mesh.shape["fsdp"] * tensor)
    of_row = activation_bytes_per_row(model, precision, device.platform, *row, loss, tensor)
    return max(1, int(left * ACTIVATION_SHARE) // of_row)


def own_device(mesh: Mesh) -> Any:
    """A device of this process if the mesh has one: others do not report their memory."""
    return next((d for d in mesh.devices.flat if d.process_index == jax.process_index()), mesh.devices.flat[0])


def split_caution(key: str, batch_size: int, rows: int, most: int, about: str = "") -> list[str]:
    """A warning if the ``rows`` of a batch on a device, of which ``most`` fit at once, are done in at least twice as
    many parts as needed, with the nearest batch sizes below and above that are done in fewer."""
    most = max(1, most)
    good = lambda n: parts_of(n, most) < 2 * -(-n // most)
    if good(rows):
        return []
    parts = parts_of(rows, most)
    each = rows // parts
    nearest = [next(filter(good, range(rows, 0, -1))), next(filter(good, range(rows, 2 * rows + most + 1)))]
    return [
        f"{key} = {batch_size} is done in {parts} parts of {each} row{'s' * (each != 1)} a device, although {most} "
        f"would fit, because {rows} has no divisor close to that; "
        f"{about}{one_of([batch_size * n // rows for n in nearest])} would be done in fewer"
    ]
