"""The memory that training takes, by formulas and shapes; whether model and batches fit, before they are built."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from bertjax.batch import shapes
from bertjax.config import ModelConfig
from bertjax.engine.activation_memory import Trained, activation_bytes_per_row
from bertjax.engine.dispatch import batches_held
from bertjax.errors import ConfigError
from bertjax.memory import host_memory
from bertjax.model.flops import parameter_count
from bertjax.model.parameters import padded_vocabulary
from bertjax.parallel.devices import GIB, memory_limit
from bertjax.parallel.mesh import batch_shards, divisors, one_of

_FLOAT_BYTES = 4
# Part of the host's memory that they may take.
BATCHES_SHARE = 0.5
# Part of a device's memory, beside the state, that the activations of one accumulation step may take by the estimate.
# With unrolled layers the compiler of TPUs spends up to 1.4 times as much where there is room: BERT-base on a v5e then
# has 14.1 of 15.75 GiB in use; a share of 0.8 does not fit.
ACTIVATION_SHARE = 0.7


def state_bytes(trained: Trained, divided: int) -> int:
    """Bytes a device of weights, gradients and the optimizer's state that are divided over so many devices."""
    return int(_FLOAT_BYTES * (2 + trained.optimizer_values) * parameter_count(trained.model)) // divided


def check_model(trained: Trained, mesh: Mesh, row: tuple[int, int, int], times: int = 1) -> None:
    """Raises ConfigError if training on a single row takes more than ``times`` a device's memory. row: its length,
    predictions and examples."""
    device = own_device(mesh)
    limit = times * memory_limit(device)
    needed = lambda trained, divided: (
        state_bytes(trained, divided) + _row_bytes(trained, device.platform, row, mesh.shape["tensor"], limit)
    )
    divided = mesh.shape["fsdp"] * mesh.shape["tensor"]
    if needed(trained, divided) <= limit:
        return
    fits = lambda changed: needed(dataclasses.replace(trained, model=changed), divided) <= limit
    ways = list(_ways_out(trained.model, row[0], fits))
    if mesh.shape["fsdp"] == 1 and mesh.size > 1 and needed(trained, mesh.size) <= limit:
        ways.append("--config.parallel.data=1 --config.parallel.fsdp=-1")
    state, activations = state_bytes(trained, divided), needed(trained, divided) - state_bytes(trained, divided)
    would = f"{' or '.join(ways)} would fit" if ways else "take a smaller config.model, or larger devices"
    raise ConfigError(
        f"the model of {parameter_count(trained.model):,} parameters does not fit: {_gib(state)} a device for weights, "
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


def _row_bytes(trained: Trained, platform: str, row: tuple[int, int, int], tensor: int, limit: int) -> int:
    """What a row takes; of one that is far beyond ``limit``, the least that it can be."""
    model, (length, predictions, _) = trained.model, row
    least = 2 * length * (model.num_hidden_layers * model.hidden_size + model.intermediate_size)
    least = (least + 4 * predictions * model.vocab_size) // tensor
    if least > limit or state_bytes(trained, tensor) > jax.device_count() * limit:
        return least
    return activation_bytes_per_row(trained, platform, *row, tensor)


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


def rows_that_fit(trained: Trained, mesh: Mesh, row: tuple[int, int, int]) -> int:
    """Rows that one device can work on at once. row: as for check_model."""
    device, tensor = own_device(mesh), mesh.shape["tensor"]
    left = memory_limit(device) - state_bytes(trained, mesh.shape["fsdp"] * tensor)
    of_row = activation_bytes_per_row(trained, device.platform, *row, tensor)
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
