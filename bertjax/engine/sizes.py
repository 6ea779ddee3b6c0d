"""Whether a run can be at all on the memory there is: asked of formulas and shapes, before anything is built."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from bertjax.batch import shapes
from bertjax.config import ModelConfig
from bertjax.engine.activations import Loss, activation_bytes_per_row, state_bytes
from bertjax.errors import ConfigError
from bertjax.memory import host_memory
from bertjax.model.flops import parameter_count
from bertjax.model.parameters import padded_vocabulary
from bertjax.parallel.devices import GIB, memory_limit
from bertjax.parallel.mesh import batch_shards, divisors, one_of

# Batches beside those that are made ahead: the one in the making and the one in the step.
MORE_BATCHES = 2
# Part of the host's memory that they may take.
BATCHES_SHARE = 0.5


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
    key: str, batch_size: int, row: tuple[int, int, int], mesh: Mesh, prefetch: int, times: int = 1
) -> None:
    """Raises ConfigError if the batches made ahead do not fit in the memory of the host and of the devices."""
    of_row = sum(math.prod(shape) * dtype.itemsize for shape, dtype in shapes(1, *row).values())
    own = max(1, len({d.process_index for d in mesh.devices.flat}))  # each process makes its part
    limits = {
        "this machine": times * host_memory() * BATCHES_SHARE * own / of_row,
        "the devices": times * memory_limit(own_device(mesh)) * batch_shards(mesh) / of_row,
    }
    where, rows = min(limits.items(), key=lambda limit: limit[1])
    ready, shards = prefetch + MORE_BATCHES, batch_shards(mesh)
    if batch_size * ready <= rows:
        return
    if batch_size * (1 + MORE_BATCHES) <= rows:
        raise ConfigError(
            f"config.data.prefetch = {prefetch} batches of {batch_size * of_row / GIB:.2g} GiB each do not fit in "
            f"the memory of {where}; {int(rows) // batch_size - MORE_BATCHES} would"
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


# Part of a device's memory, beside the state, that the activations of one accumulation step may take. They are known to
# some percent; the rest is for what the backward pass computes on the way, and for the program itself.
ACTIVATION_SHARE = 0.7


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


def rows_that_fit(
    model: ModelConfig, precision: str, mesh: Mesh, length: int, predictions: int, loss: Loss, examples: int = 1
) -> int:
    """Rows of ``length`` that one device can work on at once, by what the backward pass keeps of each."""
    device = own_device(mesh)
    row = activation_bytes_per_row(
        model, precision, device.platform, length, predictions, examples, loss, mesh.shape["tensor"]
    )
    left = memory_limit(device) - state_bytes(model, mesh.shape["fsdp"] * mesh.shape["tensor"])
    return max(1, int(left * ACTIVATION_SHARE) // row)


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
        f"{key} = {batch_size} is done in {parts} parts of {each} row{'s' * (each != 1)} a device, though {most} would "
        f"fit: {rows} has no divisor near; {about}{one_of([batch_size * n // rows for n in nearest])} would be done in "
        f"fewer"
    ]
