"""What pretraining and fine-tuning make of a config: the state and the functions that train it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.batch import Batch, Objective
from bertjax.config import GuardConfig, ModelConfig, ParallelConfig
from bertjax.engine.guard import initial_health, judged
from bertjax.engine.schedules import Schedule
from bertjax.engine.state import TrainState, adjusted, initial_loss_scale
from bertjax.engine.step import make_train_step
from bertjax.model.attention import kernel_name
from bertjax.model.bert import merge_params
from bertjax.model.fp8 import apart, joined
from bertjax.model.layer_stack import unstacked
from bertjax.model.precision import precision_named
from bertjax.parallel.data_parallel import is_data_parallel, summed_over_data, with_share
from bertjax.parallel.sharding import (
    BATCH_SPEC,
    batch_sharding,
    divided_attention,
    divided_lookup,
    pinned,
    shardings_of,
    tree_shardings,
)

# Of steps, by platform. cuBLASLt adds biases and residuals and applies GELU within a product; the products that XLA
# makes with Triton leave them to passes of their own, a tenth of what a layer moves.
COMPILER_OPTIONS: dict[str, dict[str, bool]] = {"gpu": {"xla_gpu_enable_triton_gemm": False}}


def compiler_options(platform: str) -> dict[str, bool]:
    """Those of ``COMPILER_OPTIONS`` that the user's XLA_FLAGS do not mention."""
    flags = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in COMPILER_OPTIONS.get(platform, {}).items() if f"--{name}" not in flags}


@dataclass(frozen=True)
class Job:
    """The functions that a run is made of; none of them holds parameters.

    graphdef: the model without its parameters; training_graphdef: where the run computes in 8 bits, the model that does
    so, which holds the scaling of ``model.fp8`` as well. specs: what describes each parameter. guard: its loss in units
    of the objective's. make_params(): parameters in the shapes of the training model. unrolled:
    whether the model's layers are.
    """

    mesh: Mesh
    precision: str
    guard: GuardConfig
    graphdef: Any
    specs: Any
    objective: Objective
    optimizer: optax.GradientTransformation
    make_params: Callable[[], Any]
    unrolled: bool = field(default=False, kw_only=True)
    parallel: ParallelConfig = field(default=ParallelConfig(), kw_only=True)
    training_graphdef: Any = field(default=None, kw_only=True)

    def model(self, params: Any) -> Any:
        graphdef = self.training_graphdef if apart(params)[1] else self.graphdef
        return merge_params(graphdef, params)

    def forward(self, params: Any, batch: dict[str, jax.Array], dropout_seed: Any) -> Any:
        return self.model(params).on_batch(batch, dropout_seed)

    def describe(self, model: str, config: ModelConfig) -> list[str]:
        """The model and what it runs on, in lines for a person; with the attention kernel if that was left open."""
        platform = self.mesh.devices.flat[0].platform
        devices = f"{self.mesh.size} {platform} device{'s' * (self.mesh.size != 1)}"
        lines = [f"{model} parameters, {self.precision}, on {devices}, jax {jax.__version__}"]
        if self.precision == "tf32" and platform == "cpu":
            lines.append("tf32: CPUs have no such products; they are computed in float32")
        if config.attention == "auto":
            kernel = kernel_name(config, precision_named(self.precision, platform), backend=platform)
            lines.append(f"attention: {kernel}")
        return lines

    def state_shapes(self) -> TrainState:
        """ShapeDtypeStructs of a state, laid out as the logical axes of the parameters ask for."""
        shapes = jax.eval_shape(lambda: self._new_state())  # a job has no hash, as a bound method needs
        shardings = tree_shardings(shapes, self._axes, self.mesh)
        state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
        return state.replace(opt_state=self._shares(state.opt_state))

    @property
    def _axes(self) -> Any:
        """The logical axes of each parameter."""
        return jax.tree.map(lambda spec: spec.axes, self.specs)

    def _separate(self, held: Any) -> Any:
        """What the gradient is taken of: unrolled layers by their single arrays."""
        params, scaling = apart(held)
        return joined(unstacked(params, self._axes), scaling)

    @property
    def _reduces_itself(self) -> bool:
        """Whether the step says where gradients are reduced; elsewhere that is left to the compiler."""
        return is_data_parallel(self.mesh) and self.objective.adds_up

    def _shares(self, arrays: Any) -> Any:
        """Whole arrays as the update has them: each device a share, if it is divided."""
        if not (self._reduces_itself and self.parallel.divide_update):
            return arrays
        return jax.tree.map(lambda x: with_share(x, self.mesh), arrays)

    def initial_state(self) -> TrainState:
        """A new state, every array made where it belongs: without out_shardings jit would replicate the moments."""
        return jax.jit(lambda: self._new_state(), out_shardings=shardings_of(self.state_shapes()))()

    def _new_state(self) -> TrainState:
        params, scaling = apart(self.make_params())
        return TrainState(
            step=jnp.zeros([], jnp.int32),
            params=params,
            opt_state=self.optimizer.init(params),
            loss_scale=initial_loss_scale(self.precision),
            health=initial_health(),
            scaling=scaling,
        )

    def pure_step(self, schedule: Schedule, seed: int | jax.Array, parts: int) -> Callable[..., Any]:
        """``make_train_step`` of this job; float16 alone needs its loss scaled."""
        hooks: dict[str, Any] = {"separate": self._separate} if self.unrolled else {}
        if self._reduces_itself:
            state = self.state_shapes()
            gradient = self._shares(state.params)
            found = joined(gradient, state.scaling)
            hooks["summed"] = summed_over_data(self.mesh, found, self.parallel.reduce_in)
            hooks["shared_out"] = partial(jax.lax.with_sharding_constraint, shardings=shardings_of(gradient))
        return make_train_step(
            self.forward,
            self.objective,
            self.optimizer,
            schedule,
            seed,
            accumulation=parts,
            adjust_loss_scale=adjusted if self.precision == "float16" else lambda loss_scale, finite: loss_scale,
            judge=partial(judged, guard=self.guard),
            **hooks,
        )

    def jit_train_step(self, step: Callable[..., Any], constants: int = 0) -> Callable[..., Any]:
        """The step under jit: explicit shardings in and out, the old state's memory reused for the new. constants: how
        many arguments it has after state and batch, the same on every device."""
        shardings, replicated = shardings_of(self.state_shapes()), NamedSharding(self.mesh, PartitionSpec())
        return jax.jit(
            step,
            in_shardings=(shardings, batch_sharding(self.mesh), *[replicated] * constants),
            out_shardings=(shardings, replicated),
            donate_argnums=0,
            compiler_options=compiler_options(self.mesh.devices.flat[0].platform),
        )

    def jit_eval_step(self, step: Callable[[Any, Batch], Any]) -> Callable[[Any, Batch], Any]:
        """``step(params, batch)`` under jit, its result whole on every device."""
        return jax.jit(
            step,
            in_shardings=(shardings_of(self.state_shapes().params), batch_sharding(self.mesh)),
            out_shardings=NamedSharding(self.mesh, PartitionSpec()),
        )


def hooks(precision: str, mesh: Mesh) -> dict[str, Any]:
    """What a model needs to run on a mesh: backend, precision, lookup, constrain and replicate of ``Bert``."""
    backend = mesh.devices.flat[0].platform
    return {
        "backend": backend,
        "precision": precision_named(precision, backend),
        "lookup": divided_lookup(mesh),
        "divided": divided_attention(mesh),
        "constrain": pinned(mesh, BATCH_SPEC),
        "replicate": pinned(mesh, PartitionSpec()),
    }
