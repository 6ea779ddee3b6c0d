"""From a config, a model and a task to the functions of a run: forward pass, optimizer, steps, batches."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.batch import Batch, Objective, Values
from bertjax.config import ModelConfig
from bertjax.config_schema import LARGEST_INT
from bertjax.engine.activation_memory import Trained
from bertjax.engine.compiled_ahead import CompiledAhead
from bertjax.engine.dispatch import MOST_AHEAD, steps_ahead
from bertjax.engine.job import Job, hooks
from bertjax.engine.optimizers import make_optimizer, values_a_parameter
from bertjax.engine.precision_check import check_precision
from bertjax.engine.recorder import StepCost
from bertjax.engine.schedules import Schedule, warmup_then_decay
from bertjax.engine.state import TrainState, with_params
from bertjax.engine.training_memory import (
    check_batch,
    check_divides,
    check_model,
    parts_of,
    rows_that_fit,
    split_caution,
)
from bertjax.errors import ConfigError
from bertjax.finetune.batching import Batches
from bertjax.finetune.model_and_examples import Start
from bertjax.finetune.settings import FinetuneConfig, Trial
from bertjax.finetune.task_setup import TaskSetup
from bertjax.model.bert import split_params
from bertjax.model.flops import train_flops_per_row
from bertjax.model.layer_stack import Unstacked, is_unstacked
from bertjax.model.parameters import parameter_specs
from bertjax.model.task import POOLED, TaskModel
from bertjax.objectives.losses import batch_loss
from bertjax.parallel.mesh import batch_shards
from bertjax.parallel.sharding import batch_sharding

# Batches made ahead.
PREFETCH = 1
# About what the devices do while a step is compiled for another row length, FLOPs: the padding saved must exceed it.
FLOPS_OF_COMPILING = {"cpu": 1e12}
FLOPS_OF_COMPILING_ELSEWHERE = 2e15
# Unrolled layers take an eighth off a short step on a CPU, and some seconds more to compile for each row length.
UNROLLED_FROM = {"cpu": 1000}  # steps


@dataclass(frozen=True)
class TrialJob(Job):
    """One trial: its task, batches and steps.

    params: the first weights, nested dict of arrays on the host. schedule: of a peak learning rate. programs: what
    earlier trials of the run have compiled; seed and learning rate are arguments of it.
    """

    run: FinetuneConfig
    trial: Trial
    setup: TaskSetup
    model_config: ModelConfig
    params: Any
    rates: Any
    schedule: Callable[[Any], Schedule]
    train_batches: Batches
    eval_batches: Batches
    eval_objective: Objective
    steps: int
    parts: int
    cautions: list[str]
    programs: dict[Any, Any]

    def forward(self, params: Any, batch: Batch, dropout_seed: Any) -> Any:
        return super().forward(held(params, self.rates), batch, dropout_seed)

    def initial_state(self) -> TrainState:
        return with_params(super().initial_state(), self.params)

    def train_step(self) -> CompiledAhead:
        """``step(row length, state, batch, seed, learning rate)``, a program for each row length."""

        def step(state: TrainState, batch: Batch, seed: jax.Array, learning_rate: jax.Array):
            return self.pure_step(self.schedule(learning_rate), seed, self.parts)(state, batch)

        compiled = CompiledAhead(self.jit_train_step(step, constants=2))
        return self.programs.setdefault(("train", self.trial.epochs), compiled)

    @property
    def constants(self) -> tuple[np.generic, ...]:
        """What the step takes after state and batch: seed and learning rate."""
        return np.uint32(self.trial.seed), np.float32(self.trial.learning_rate)

    def shapes_from(self, index: int) -> dict[int, Callable[[], tuple[Any, ...]]]:
        """The shapes of what the step takes, by row length: those of batch ``index`` and after, in their order."""
        sharding, everywhere = batch_sharding(self.mesh), NamedSharding(self.mesh, PartitionSpec())
        shape = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        rows = np.full(self.train_batches.rows, -1)

        def shapes(length: int) -> tuple[Any, ...]:
            batch = {name: shape(x, sharding) for name, x in self.train_batches.make(rows, length).items()}
            return self.state_shapes(), batch, *(shape(x, everywhere) for x in self.constants)

        found: dict[int, Callable[[], tuple[Any, ...]]] = {}
        for number in range(index, self.steps):
            length = self.train_batches.training(self.trial.seed, number)[1]
            found.setdefault(length, partial(shapes, length))
            if len(found) == len(self.train_batches.row_lengths):
                break
        return found

    def predict_step(self) -> Callable[[Any, Batch], tuple[jax.Array, Values, Values]]:
        """``(params, batch) -> (logits or embeddings, sums, weights)``, whole on every device."""

        def predict(params: Any, batch: Batch):
            output = self.forward(params, batch, None)
            values = output.embeddings if output.logits is None else output.logits
            return values, self.eval_objective.sums(output, batch), self.eval_objective.weights(batch)

        return self.programs.setdefault(("predict", self.trial.epochs), self.jit_eval_step(predict))

    @property
    def ahead(self) -> int:
        """Steps that are dispatched before the metrics of one are read."""
        return steps_ahead([self.cost(int(self.train_batches.row_lengths[-1])).flops], self.mesh)

    def cost(self, length: int) -> StepCost:
        """Token positions and FLOPs of a step with rows of this length."""
        rows, positions = self.train_batches.rows, self.setup.task.num_positions
        return StepCost(rows * length, rows * train_flops_per_row(self.model_config, length, 0, positions))


def make_job(
    run: FinetuneConfig, trial: Trial, start: Start, setup: TaskSetup, mesh: Mesh, programs: dict[Any, Any]
) -> TrialJob:
    """programs: one dict for all trials of a run, empty at first. Raises ConfigError if the model or the batch cannot
    be divided as the config says."""
    model = start.model
    check_divides(model, mesh)
    check_precision(run.precision, mesh, model)
    row = (min(run.model.max_length, model.max_position_embeddings), 0, 1)
    moments = values_a_parameter(run.optimizer, nnx.eval_shape(lambda: TaskModel(model, setup.task, nnx.Rngs(0))))
    # What a task's own head keeps is little beside the encoder.
    trained = Trained(model, run.precision, batch_loss, moments)
    check_model(trained, mesh, row)
    check_batch(
        "config.training.batch_size", run.training.batch_size * setup.per_example, row, mesh, PREFETCH, ahead=MOST_AHEAD
    )
    params = jax.tree.map(np.asarray, split_params(start.make(setup.task, trial.seed))[1])
    training = run.training
    if training.frozen_layers is not None and training.frozen_layers > model.num_hidden_layers:
        raise ConfigError(
            f"config.training.frozen_layers = {training.frozen_layers}, but the model has {model.num_hidden_layers}"
        )
    rates = multipliers(params, model, setup.task.kind, training.layer_decay, training.frozen_layers)
    shards, positions = batch_shards(mesh), model.max_position_embeddings
    # Padding, in tokens, that takes as long as to compile the step for another row length.
    compiling = FLOPS_OF_COMPILING.get(mesh.devices.flat[0].platform, FLOPS_OF_COMPILING_ELSEWHERE)
    worth = compiling * 32 / train_flops_per_row(model, 32, 0) / trial.epochs
    make_batches = lambda rows: Batches(
        rows, training.batch_size, positions, start.tokenizer.pad_id, setup.per_example, shards, worth
    )
    train_batches = make_batches(setup.train)
    steps = trial.epochs * train_batches.per_epoch
    if steps > LARGEST_INT:
        most = LARGEST_INT // train_batches.per_epoch
        raise ConfigError(f"config.training.epochs = {trial.epochs} are {steps:,} steps, too many; the most is {most}")
    if run.model.scan_layers is None:
        model = replace(model, scan_layers=steps < UNROLLED_FROM.get(mesh.devices.flat[0].platform, math.inf))
    abstract = nnx.eval_shape(lambda: TaskModel(model, setup.task, nnx.Rngs(0), **hooks(run.precision, mesh)))
    specs = parameter_specs(abstract)
    shape = {"decay": run.optimizer.schedule, "power": run.optimizer.power}
    warmup = round(training.warmup_fraction * steps)
    cautions = list(setup.cautions)
    if warmup >= steps:
        cautions.append(
            f"config.training.warmup_fraction = {training.warmup_fraction:g} is all of the {steps} steps: the rate "
            "only rises; a tenth of them would be --config.training.warmup_fraction=0.1"
        )
    rows, longest = train_batches.rows // shards, (int(train_batches.row_lengths[-1]), 0, 1)  # on a device
    most = run.parallel.rows_per_device or rows_that_fit(replace(trained, model=model), mesh, longest)
    cautions += split_caution("config.training.batch_size", training.batch_size, rows, most, "about ")
    parts = parts_of(rows, most)
    if parts > 1 and setup.per_example > 1:
        raise ConfigError(
            f"an embedding batch cannot be done in {parts} parts, as its pairs are compared with each other; "
            f"use a smaller config.training.batch_size, or more devices, or config.parallel.rows_per_device = 0"
        )
    return TrialJob(
        mesh,
        run.precision,
        replace(run.guard, loss_rise=run.guard.loss_rise * setup.loss_unit),
        nnx.graphdef(abstract),
        specs,
        setup.objective,
        optax.chain(make_optimizer(run.optimizer, specs), scale_by_rates(rates)),
        make_params=lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params),
        unrolled=abstract.bert.encoder.unrolled,
        parallel=run.parallel,
        run=run,
        trial=trial,
        setup=setup,
        model_config=model,
        params=params,
        rates=rates,
        schedule=lambda peak: warmup_then_decay(peak, warmup, steps, **shape, decay_from=warmup),
        train_batches=train_batches,
        eval_batches=make_batches(setup.eval),
        eval_objective=setup.eval_objective or setup.objective,
        steps=steps,
        parts=parts,
        cautions=cautions,
        programs=programs,
    )


def describe_job(job: TrialJob) -> list[str]:
    count, batches, trial = sum(x.size for x in jax.tree.leaves(job.params)), job.train_batches, job.trial
    split = f" in {job.parts} parts" if job.parts > 1 else ""
    return [
        *job.describe(f"{job.setup.task.kind}: {count:,}", job.model_config),
        f"{trial.epochs} epochs of {batches.per_epoch:,} steps of {job.run.training.batch_size} examples{split}, rows "
        f"of up to {batches.row_lengths[-1]} tokens, learning rate {trial.learning_rate:g}, seed {trial.seed}",
    ]


def multipliers(params: Any, model: ModelConfig, kind: str, layer_decay: float, frozen_layers: int | None) -> Any:
    """For every parameter (or ShapeDtypeStruct) a float, or for stacked layers an array [L, 1, ...].

    layer_decay ** (L + 1 - depth), where the embeddings have depth 0, layer i (from 0) has i + 1, and what is above
    has L + 1 (Howard and Ruder 2018; the sizes of steps as in ELECTRA's run_finetuning.py). 0 for the embeddings and
    the first ``frozen_layers`` layers, and for a pooler that ``kind`` has no use for.
    """
    L = model.num_hidden_layers
    rates = layer_decay ** (L + 1.0 - np.arange(L + 2))
    if frozen_layers is not None:
        rates[: frozen_layers + 1] = 0.0

    def rate(path: tuple[Any, ...], x: Any) -> Any:
        names = [key.key for key in path]
        if "embeddings" in names:
            return float(rates[0])
        if "layers" in names:
            return rates[1 : L + 1].astype(np.float32).reshape(L, *[1] * (len(x.shape) - 1))
        if "pooler" in names and kind not in POOLED:
            return 0.0
        return float(rates[L + 1])

    return jax.tree_util.tree_map_with_path(rate, params)


def held(params: Any, rates: Any) -> Any:
    """The parameters, layers stacked or not, those with rate 0 without a gradient: it is exactly 0 and in no norm."""

    def hold(p: Any, rate: Any) -> Any:
        if is_unstacked(p):
            return Unstacked(tuple(map(hold, p.layers, rate)))
        if np.all(rate == 0):
            return jax.lax.stop_gradient(p)
        return p if np.all(rate != 0) else jnp.where(rate == 0, jax.lax.stop_gradient(p), p)

    return jax.tree.map(hold, params, rates, is_leaf=is_unstacked)


def scale_by_rates(rates: Any) -> optax.GradientTransformation:
    """Multiplies the updates, weight decay included."""
    return optax.stateless(lambda updates, params: jax.tree.map(lambda u, rate: u * rate, updates, rates))
