"""From a config and a mesh to the functions of a run: forward pass, optimizer, steps, and how a batch is split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.config import ModelConfig, PhaseConfig, RunConfig
from bertjax.engine.activations import activation_bytes_per_row, state_bytes
from bertjax.engine.health import judged
from bertjax.engine.loss_scale import ADJUSTMENTS
from bertjax.engine.optimizers import make_optimizer
from bertjax.engine.recorder import Work
from bertjax.engine.schedules import Schedule, run_schedule
from bertjax.engine.state import TrainState, initial_state, sharded_shapes
from bertjax.engine.step import jit_eval_step, jit_train_step, make_eval_step, make_train_step
from bertjax.errors import ConfigError
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.flops import train_flops_per_row
from bertjax.model.parameters import logical_axes, padded_vocabulary, parameter_specs
from bertjax.model.precision import precision_named
from bertjax.objectives.losses import PRETRAINING
from bertjax.parallel.devices import memory_limit
from bertjax.parallel.lookup import divided_lookup
from bertjax.parallel.mesh import batch_shards, divisors, one_of
from bertjax.parallel.sharding import batch_sharding

# Part of a device's memory, beside the state, that the activations of one accumulation step may take. They are known to
# some percent; the rest is for what the backward pass computes on the way, and for the program itself.
ACTIVATION_SHARE = 0.7


@dataclass(frozen=True)
class Job:
    """The functions that a run is made of; none of them holds parameters. specs: what describes each of these."""

    run: RunConfig
    mesh: Mesh
    graphdef: Any
    specs: Any
    optimizer: optax.GradientTransformation
    schedule: Schedule

    def make_params(self) -> dict[str, Any]:
        """New weights from the config's seed."""
        return split_params(self._model())[1]

    def forward(self, params: Any, batch: dict[str, jax.Array], dropout_seed: Any):
        """The model on a batch, logits at the masked positions and at every example's [CLS]."""
        return self.model(params).on_batch(batch, dropout_seed)

    def model(self, params: Any) -> Bert:
        """The model with these parameters, wherever they are on the mesh."""
        return merge_params(self.graphdef, params)

    def _model(self) -> Bert:
        return _new_model(self.run, self.mesh)

    def initial_state(self) -> TrainState:
        return initial_state(self.make_params, self.optimizer, self.run.precision, logical_axes(self.specs), self.mesh)

    def state_shapes(self) -> TrainState:
        return sharded_shapes(self.make_params, self.optimizer, self.run.precision, logical_axes(self.specs), self.mesh)

    def train_step(self, phase: PhaseConfig):
        """The compiled-on-first-call step of a phase."""
        step = make_train_step(
            self.forward,
            PRETRAINING,
            self.optimizer,
            self.schedule,
            self.run.seed,
            accumulation=accumulation_steps(self.run, phase, self.mesh),
            adjust_loss_scale=ADJUSTMENTS[self.run.precision],
            judge=partial(judged, guard=self.run.guard),
        )
        return jit_train_step(step, self.state_shapes(), self.mesh)

    def eval_step(self):
        return jit_eval_step(make_eval_step(self.forward, PRETRAINING), self.state_shapes().params, self.mesh)


def make_job(run: RunConfig, mesh: Mesh) -> Job:
    """Raises ConfigError where the model or a batch cannot be divided over the mesh."""
    check_divides(run.model, mesh)
    for phase in run.phases.values():
        accumulation_steps(run, phase, mesh)
    model = nnx.eval_shape(lambda: _new_model(run, mesh))
    specs = parameter_specs(model)
    return Job(run, mesh, nnx.graphdef(model), specs, make_optimizer(run.optimizer, specs), run_schedule(run))


def check_divides(model: ModelConfig, mesh: Mesh) -> None:
    """Raises ConfigError where an axis of the mesh does not divide what it is to divide."""
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


def accumulation_steps(run: RunConfig, phase: PhaseConfig, mesh: Mesh) -> int:
    """Parts that a phase's batch is done in, so that no device holds more rows at once than it should."""
    shards = batch_shards(mesh)
    if phase.batch_size % shards:
        below = phase.batch_size // shards * shards
        raise ConfigError(
            f"a batch_size of {phase.batch_size} rows does not divide over {shards} devices; "
            f"{below or shards} or {below + shards} would"
        )
    return parts_of(phase.batch_size // shards, most_rows(run, phase, mesh))


def most_rows(run: RunConfig, phase: PhaseConfig, mesh: Mesh) -> int:
    """Rows of a phase that a device works on at once at most."""
    return run.parallel.rows_per_device or rows_that_fit(
        run.model, run.precision, mesh, phase.sequence_length, phase.max_predictions, examples_per_row(run)
    )


def examples_per_row(run: RunConfig) -> int:
    """Examples that a row holds at most."""
    return run.data.max_examples_per_row if run.data.packing else 1


def parts_of(rows: int, most: int) -> int:
    """The smallest number of equal parts of ``rows`` that are no larger than ``most``."""
    return next(parts for parts in range(1, rows + 1) if rows % parts == 0 and rows // parts <= max(1, most))


def rows_that_fit(
    model: ModelConfig, precision: str, mesh: Mesh, length: int, predictions: int, examples: int = 1
) -> int:
    """Rows of ``length`` that one device can work on at once, by what the backward pass keeps of each."""
    device = own_device(mesh)
    row = activation_bytes_per_row(
        model, precision, device.platform, length, predictions, examples, mesh.shape["tensor"]
    )
    left = memory_limit(device) - state_bytes(model, mesh.shape["fsdp"] * mesh.shape["tensor"])
    return max(1, int(left * ACTIVATION_SHARE) // row)


def own_device(mesh: Mesh) -> Any:
    """A device of this process, where there is one: others do not say how much memory they have."""
    return next((d for d in mesh.devices.flat if d.process_index == jax.process_index()), mesh.devices.flat[0])


def _new_model(run: RunConfig, mesh: Mesh) -> Bert:
    return Bert(run.model, nnx.Rngs(run.seed), **hooks(run.precision, mesh))


def hooks(precision: str, mesh: Mesh) -> dict[str, Any]:
    """What a model is given so that it runs on a mesh: precision, lookup, constrain and replicate of ``Bert``."""
    pin = lambda sharding: lambda x: jax.lax.with_sharding_constraint(x, sharding)
    return {
        "precision": precision_named(precision, mesh.devices.flat[0].platform),
        "lookup": divided_lookup(mesh),
        "constrain": pin(batch_sharding(mesh)),
        "replicate": pin(NamedSharding(mesh, PartitionSpec())),
    }


def work_of_step(model: ModelConfig, phase: PhaseConfig) -> Work:
    """Token places of a step of the phase, and its FLOPs."""
    row = train_flops_per_row(model, phase.sequence_length, phase.max_predictions)
    return Work(phase.batch_size * phase.sequence_length, phase.batch_size * row)


def describe_job(job: Job) -> list[str]:
    """What is about to run, in lines for a person."""
    run, mesh = job.run, job.mesh
    params = sum(x.size for x in jax.tree.leaves(job.state_shapes().params))
    device = mesh.devices.flat[0]
    lines = [
        f"model: {run.model.num_hidden_layers} layers x {run.model.hidden_size}, {params:,} parameters, "
        f"{run.precision}, on {mesh.size} {device.platform} device{'s' * (mesh.size != 1)}, jax {jax.__version__}"
    ]
    for name, phase in run.phases.items():
        parts = accumulation_steps(run, phase, mesh)
        split = f" in {parts} parts" if parts > 1 else ""
        lines.append(
            f"{name}: {phase.steps:,} steps of {phase.batch_size} rows x {phase.sequence_length} tokens{split}"
        )
    return lines
