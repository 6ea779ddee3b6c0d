"""From a config and a mesh to the functions of a run: forward pass, optimizer, steps, and how a batch is split."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from bertjax.batch import Batch, Values
from bertjax.config import ModelConfig, PhaseConfig, RunConfig, UpdateConfig, most_predictions
from bertjax.engine.activation_memory import Trained
from bertjax.engine.dispatch import steps_ahead
from bertjax.engine.job import Job, hooks
from bertjax.engine.optimizers import make_optimizer, values_a_parameter
from bertjax.engine.precision_check import check_precision
from bertjax.engine.precision_choice import faster_precision, slow_precision
from bertjax.engine.recorder import StepCost
from bertjax.engine.schedules import Schedule, run_schedule
from bertjax.engine.state import TrainState
from bertjax.engine.training_memory import (
    check_batch,
    check_divides,
    check_model,
    parts_of,
    rows_that_fit,
    split_caution,
)
from bertjax.errors import ConfigError
from bertjax.model.bert import Bert, split_params
from bertjax.model.flops import train_flops_per_row
from bertjax.model.fp8 import apart
from bertjax.model.heads import heads_with
from bertjax.model.parameters import parameter_specs
from bertjax.objectives.losses import loss_of, objective_of
from bertjax.objectives.registry import run_objective
from bertjax.parallel.mesh import batch_shards
from bertjax.parallel.sharding import batch_sharding


@dataclass(frozen=True)
class PretrainingJob(Job):
    run: RunConfig
    schedule: Schedule

    def train_step(self, phase: PhaseConfig) -> Callable[..., Any]:
        """The step of a phase, which compiles when it is called first."""
        parts = accumulation_steps(self.run, phase, self.mesh)
        return self.jit_train_step(self.pure_step(self.schedule, self.run.seed, parts))

    def step_shapes(self, batch: Mapping[str, np.ndarray]) -> tuple[TrainState, dict[str, jax.ShapeDtypeStruct]]:
        """What the step of a phase takes, for global batches like this one."""
        sharding = batch_sharding(self.mesh)
        shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        return self.state_shapes(), {name: shape(field) for name, field in batch.items()}

    def eval_step(self) -> Callable[[Any, Batch], Values]:
        """``(params, batch) -> sums`` of the objective and, as ``NAME_weight``, what they are divided by."""

        def step(params: Any, batch: Batch) -> Values:
            weights = self.objective.weights(batch)
            sums = self.objective.sums(self.forward(params, batch, None), batch)
            return sums | {f"{name}_weight": value for name, value in weights.items()}

        return self.jit_eval_step(step)


def check_sizes(run: RunConfig, mesh: Mesh, times: int = 1) -> None:
    """Raises ConfigError, with what would fit, if model, batch or rows are beyond ``times`` the memory there is."""
    ahead = steps_ahead([cost_of_step(run.model, phase).flops for phase in run.phases.values()], mesh)
    for name, phase in run.phases.items():
        row = row_size(run, phase)
        check_model(trained(run), mesh, row, times)
        check_batch(f"config.phases.{name}.batch_size", phase.batch_size, row, mesh, run.data.prefetch, times, ahead)


def make_job(run: RunConfig, mesh: Mesh) -> PretrainingJob:
    """Raises ConfigError if the model or a batch cannot be divided over the mesh."""
    check_divides(run.model, mesh)
    for phase in run.phases.values():
        accumulation_steps(run, phase, mesh)
    objective = run_objective(run)
    heads = heads_with(objective.logits)
    check_precision(run.precision, mesh, run.model)
    make_model = lambda precision: Bert(run.model, nnx.Rngs(run.seed), heads=heads, **hooks(precision, mesh))
    new_model = partial(make_model, run.precision)
    model = nnx.eval_shape(new_model)
    # Evaluated in bfloat16: the scaling of 8 bits belongs to training.
    evaluated = nnx.eval_shape(partial(make_model, "bfloat16")) if run.precision == "fp8" else model
    specs, _ = apart(parameter_specs(model))
    return PretrainingJob(
        mesh,
        run.precision,
        run.guard,
        nnx.graphdef(evaluated),
        specs,
        objective_of(objective.losses),
        make_optimizer(run.optimizer, specs),
        make_params=lambda: split_params(new_model())[1],
        unrolled=model.encoder.unrolled,
        parallel=run.parallel,
        training_graphdef=nnx.graphdef(model),
        run=run,
        schedule=run_schedule(run),
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
    return run.parallel.rows_per_device or rows_by_memory(run, phase, mesh)


def rows_by_memory(run: RunConfig, phase: PhaseConfig, mesh: Mesh) -> int:
    """Rows of the phase that a device has memory for."""
    return rows_that_fit(trained(run), mesh, row_size(run, phase))


@functools.lru_cache(maxsize=64)
def _optimizer_values(model: ModelConfig, update: UpdateConfig) -> float:
    return values_a_parameter(update, nnx.eval_shape(lambda: Bert(model, nnx.Rngs(0))))


def trained(run: RunConfig) -> Trained:
    """What a run trains, as far as memory goes."""
    objective = run_objective(run)
    return Trained(
        run.model,
        run.precision,
        loss_of(objective.losses),
        _optimizer_values(run.model, run.optimizer),
        heads_with(objective.logits),
        tuple(objective.maker.fields.items()),
    )


def row_size(run: RunConfig, phase: PhaseConfig) -> tuple[int, int, int]:
    """The length, predictions and examples of a row."""
    examples = run.data.max_examples_per_row if run.data.packing else 1
    return phase.sequence_length, phase.max_predictions, examples


def cost_of_step(model: ModelConfig, phase: PhaseConfig) -> StepCost:
    """Token places of a step of the phase, and its FLOPs."""
    row = train_flops_per_row(model, phase.sequence_length, phase.max_predictions)
    return StepCost(phase.batch_size * phase.sequence_length, phase.batch_size * row)


def describe_job(job: PretrainingJob) -> list[str]:
    run, mesh = job.run, job.mesh
    params = sum(x.size for x in jax.tree.leaves(job.state_shapes().params))
    model = f"model: {run.model.num_hidden_layers} layers x {run.model.hidden_size}, {params:,}"
    lines = job.describe(model, run.model)
    for name, phase in run.phases.items():
        parts = accumulation_steps(run, phase, mesh)
        split = f" in {parts} parts" if parts > 1 else ""
        lines.append(
            f"{name}: {phase.steps:,} steps of {phase.batch_size} rows x {phase.sequence_length} tokens{split}"
        )
    return lines


def decided_precision(run: RunConfig, mesh: Mesh) -> tuple[str, str]:
    """(what ``config.precision = "auto"`` is for this run here, why in words)"""
    return faster_precision(run.model, _tokens_at_once(run, mesh), mesh.devices.flat[0].platform)


def precision_cautions(run: RunConfig, mesh: Mesh) -> list[str]:
    return slow_precision(run.model, run.precision, _tokens_at_once(run, mesh), mesh.devices.flat[0].platform)


def _tokens_at_once(run: RunConfig, mesh: Mesh) -> int:
    """Of a device, in the first phase."""
    phase = next(iter(run.phases.values()))
    return phase.batch_size * phase.sequence_length // (accumulation_steps(run, phase, mesh) * batch_shards(mesh))


def config_cautions(run: RunConfig) -> list[str]:
    """One warning for each key whose value is probably a mistake, with a fix."""
    lines = []
    for name, phase in run.phases.items():
        needed = most_predictions(run.data.masked_lm_prob, phase.sequence_length)
        if phase.max_predictions < needed:
            lines.append(
                f"config.phases.{name}.max_predictions = {phase.max_predictions} masks at most "
                f"{phase.max_predictions / phase.sequence_length:.1%} of {phase.sequence_length} tokens, not "
                f"config.data.masked_lm_prob = {run.data.masked_lm_prob:.4g}; leave it out, or use "
                f"--config.phases.{name}.max_predictions={needed}"
            )
    one = run.optimizer.schedule_span == "run"
    for index, (name, phase) in enumerate(run.phases.items()):
        steps = run.total_steps if one else phase.steps
        if (index == 0 or not one) and steps and (phase.warmup_steps or 0) >= steps:
            lines.append(
                f"config.phases.{name}.warmup_steps = {phase.warmup_steps} is at least as long as the schedule "
                f"({steps} steps): the rate only rises, and never reaches {phase.learning_rate:g}; a tenth of them "
                f"would be --config.phases.{name}.warmup_steps={steps // 10}"
            )
    return lines


def split_cautions(run: RunConfig, mesh: Mesh) -> list[str]:
    """A line for each phase whose batch has no divisor near what fits."""
    lines = []
    for name, phase in run.phases.items():
        rows = phase.batch_size // batch_shards(mesh)
        key = f"config.phases.{name}.batch_size"
        lines += split_caution(key, phase.batch_size, rows, most_rows(run, phase, mesh))
    return lines
