"""Sections and keys that the configs of pretraining and of fine-tuning share."""

from dataclasses import dataclass
from typing import Any

from bertjax.attention_kernels import KERNELS
from bertjax.config_schema import identity, operational
from bertjax.errors import ConfigError

_PRECISIONS = {
    "auto": "auto: the faster of float32 and bfloat16",
    "fp8": "fp8: 8-bit factors of products on Hopper",
}


def precision_key(default: str, *more: str) -> Any:
    choices = ("float32", "tf32", "bfloat16", "float16", *more)
    meaning = "number format; tf32: of products on GPUs"
    return identity(default, meaning + "".join(f"; {_PRECISIONS[name]}" for name in more), choices=choices)


def deterministic_key() -> Any:
    return operational(False, "same bits at every start on GPUs too: fixed order of sums and kernels; slower there")


def attention_key() -> Any:
    meaning = "attention kernel; auto: the fastest that supports the run. Only fused and explicit drop probabilities"
    return operational("auto", meaning, choices=("auto", *KERNELS))


def remat_key() -> Any:
    meaning = "what the backward pass recomputes instead of keeping: nothing, whole layers, all but matrix products"
    return operational("none", meaning, choices=("none", "layer", "save_matmuls"))


def update_rule_key(default: str) -> Any:
    # No ``choices``: the table itself is in ``engine.optimizers``, which refuses other names (``check_optimizer``).
    # It names the rules that a BERT is usually trained with; a row of the table needs no word here.
    meaning = "such as bert2018 (AdamW without bias correction), adamw, lamb (trust ratio for each layer), muon"
    return identity(default, meaning)


@dataclass(frozen=True)
class UpdateConfig:
    """The update rule and the shape of the learning rate."""

    name: str = update_rule_key("bert2018")
    beta1: float = identity(0.9, "decay of the mean of gradients", low=0.0, high=0.999999)
    beta2: float = identity(0.999, "decay of the mean of squared gradients", low=0.0, high=0.999999)
    eps: float = identity(1e-6, "added to the root of the squared mean", low=1e-30)
    weight_decay: float = identity(0.01, "decoupled weight decay, not on biases and layer norms", low=0.0)
    clip_norm: float = identity(1.0, "largest global gradient norm; 0 turns clipping off", low=0.0)
    schedule: str = identity(
        "polynomial",
        "after the warm-up: peak * (1 - progress) ** power, a cosine to 0, or constant",
        choices=("polynomial", "cosine", "constant"),
    )
    power: float = identity(1.0, "exponent of the polynomial schedule", low=0.0)


@dataclass(frozen=True)
class ParallelConfig:
    """How work is divided over devices. Sizes of mesh axes; one of them may be -1, which takes what is left."""

    data: int = operational(-1, "devices that share the rows of a batch", low=-1)
    fsdp: int = operational(1, "devices that share rows, parameters and optimizer state", low=-1)
    tensor: int = operational(1, "devices that share attention heads, MLP and vocabulary", low=-1)
    rows_per_device: int = operational(0, "rows a device works on at once; 0: worked out from its memory", low=0)
    divide_update: bool = operational(
        True, "each device keeps and updates a share of the optimizer's state, where only data is divided; false: all"
    )
    reduce_in: str = identity(
        "float32",
        "dtype of gradients when they are added up over devices, where only data is divided",
        choices=("float32", "bfloat16"),
        added=True,
    )
    # Compiling and saving are not counted.
    watchdog_seconds: float = operational(600.0, "end if a process makes no progress for so long; 0: never", low=0.0)


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are saved, and which are kept."""

    every_steps: int = operational(1000, "steps between two checkpoints", low=1)
    keep: int = operational(3, "number of newest checkpoints to keep", low=1)
    keep_every_steps: int = operational(0, "keep a checkpoint for good every so many steps; 0: none", low=0)
    keep_best: int = operational(0, "best checkpoints to keep: lowest held-out loss of each phase, best score", low=0)


@dataclass(frozen=True)
class GuardConfig:
    """What counts as a bad step. A bad step changes nothing, and its batch is kept for inspection."""

    gradient_factor: float = operational(
        100.0, "a step is bad if its gradient norm is over so many times the running mean", low=1.0
    )
    loss_rise: float = operational(
        3.0, "or if its loss is so far over the running mean: nats, or times the variance of a regression", low=0.0
    )
    bad_steps: int = operational(
        3, "bad steps in a row after which the run goes back to its last checkpoint and past the data, once", low=1
    )


@dataclass(frozen=True)
class LoggingConfig:
    """What is recorded."""

    every_steps: int = operational(10, "steps between two rows of metrics.jsonl", low=1)
    tensorboard: bool = operational(True, "also write TensorBoard files")


def check_mesh_sizes(parallel: ParallelConfig) -> None:
    sizes = (parallel.data, parallel.fsdp, parallel.tensor)
    if sizes.count(-1) > 1 or 0 in sizes:
        raise ConfigError("config.parallel: sizes are positive, and at most one of data, fsdp, tensor is -1")
