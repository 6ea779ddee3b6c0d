"""The train step, a pure function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bertjax.batch import Batch, Objective, Values
from bertjax.engine.guard import Health
from bertjax.engine.schedules import Schedule
from bertjax.engine.state import LossScale, TrainState
from bertjax.model.dropout import DropoutSeed
from bertjax.model.fp8 import apart, joined, recorded
from bertjax.model.layer_stack import stacked
from bertjax.parallel.data_parallel import OfRows

# ``(params, batch, dropout_seed or None) -> what the model returns``
Forward = Callable[[Any, Batch, DropoutSeed | None], Any]


def make_train_step(
    forward: Forward,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    seed: int | jax.Array,
    accumulation: int,
    adjust_loss_scale: Callable[[LossScale, jax.Array], LossScale],
    judge: Callable[[Health, jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, Health]],
    summed: Callable[[OfRows], OfRows] = lambda of_rows: of_rows,
    shared_out: Callable[[Any], Any] = lambda params: params,
    separate: Callable[[Any], Any] = lambda params: params,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """``step(state, batch) -> (state, metrics)`` for a global batch of B rows, done B / accumulation at a time.

    Loss and gradient are those of the global batch whatever the split: every part is divided by the weights
    of the whole. A step that ``judge(health, loss, grad_norm, finite, loss_scale_overflow)`` finds bad leaves
    parameters and optimizer state as they were (metric ``apply_update`` is 0). An element of a parameter whose update
    is beyond float32 stays as it was, too: no state ever holds numbers that are not finite.

    optimizer: its updates, times the learning rate of ``schedule``, are subtracted. summed: runs a function of rows on
    each device's own ones, and adds up what it returns (``parallel.data_parallel``). shared_out: lays parameters out as
    their gradients come, so that each device updates its share. separate: takes stacked parameters apart before the
    gradient is taken (``model.layer_stack``).
    """
    update = optax.with_extra_args_support(optimizer).update

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        weights = objective.weights(batch)
        rows = jnp.arange(batch["input_ids"].shape[0], dtype=jnp.uint32)

        def of_rows(shared: Any, own: tuple[Batch, jax.Array]) -> tuple[Any, Values]:
            """Sums over some rows of the batch: their share of the gradient, and what the objective adds up."""
            params, seed_and_step, weights, scale = shared

            def scaled_loss(params: Any, part: Batch, part_rows: jax.Array) -> tuple[jax.Array, Values]:
                sums = objective.sums(forward(params, part, DropoutSeed(*seed_and_step, part_rows)), part)
                return objective.total(sums, weights) * scale, sums

            return stacked(accumulate(jax.grad(scaled_loss, has_aux=True), separate(params), *own, accumulation))

        seed_and_step = jnp.asarray(seed, jnp.uint32), state.step.astype(jnp.uint32)
        held = joined(state.params, state.scaling)
        grads, sums = summed(of_rows)((held, seed_and_step, weights, state.loss_scale.scale), (batch, rows))
        grads, largest = apart(grads)
        # The scale is a power of two, so this is exact. Unscaling the norm instead of every gradient that goes into it
        # saves a pass over the parameters.
        unscale = 1.0 / state.loss_scale.scale
        grad_norm = optax.tree.norm(grads) * unscale
        means, loss = objective.means(sums, weights), objective.total(sums, weights)

        # An overflow of float16 lowers the scale; at the lowest scale there is nothing left to lower.
        finite = jnp.isfinite(grad_norm)
        loss_scale_overflow = ~finite & (state.loss_scale.scale > 1.0)
        apply_update, health = judge(state.health, loss, grad_norm, finite, loss_scale_overflow)

        # The rate is applied here, not in the optimizer: it follows the step, also where a step was skipped.
        learning_rate = schedule(state.step)

        def updated(grads: Any, opt_state: Any, params: Any) -> tuple[Any, Any]:
            grads = jax.tree.map(lambda g: g * unscale, grads)
            updates, opt_state = update(grads, opt_state, params, grad_norm=grad_norm)
            new = jax.tree.map(lambda p, u: p - learning_rate * u, params, updates)
            return jax.tree.map(lambda p, new: jnp.where(jnp.isfinite(new), new, p), params, new), opt_state

        # Decide before updating: selecting the old or the new state afterwards costs copies of the moments, a sixth of
        # a short step on a CPU. A conditional runs in place, and costs nothing.
        params, opt_state = jax.lax.cond(
            apply_update,
            updated,
            lambda grads, opt_state, params: (params, opt_state),
            *(grads, state.opt_state, shared_out(state.params)),
        )

        metrics = means | {
            "loss": loss,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "nonfinite": ~finite,
            "apply_update": apply_update,
            "loss_scale_overflow": loss_scale_overflow,
            "bad_in_a_row": health.bad_in_a_row,
            "mean_loss": health.loss,
            "lowest_mean_loss": health.lowest,
            "loss_scale": state.loss_scale.scale,
            "real_tokens": jnp.sum(batch["example_ids"] > 0),
        }
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            loss_scale=adjust_loss_scale(state.loss_scale, finite),
            health=health,
            scaling=recorded(state.scaling, largest),
        )
        return new_state, metrics

    return train_step


def accumulate(grad_fn, params: Any, batch: Batch, rows: jax.Array, accumulation: int):
    """Sums of ``grad_fn(params, part, part_rows)`` over ``accumulation`` parts of the batch."""
    if accumulation == 1:
        return grad_fn(params, batch, rows)
    # Part a takes every A-th row, so that each device's rows stay on the device: [B] -> [B/A, A] -> [A, B/A].
    parts = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(x.shape[0] // accumulation, accumulation, *x.shape[1:]), 1, 0), (batch, rows)
    )
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(grad_fn, params, batch, rows))

    def add(total, part):
        return jax.tree.map(jnp.add, total, grad_fn(params, *part)), None

    return jax.lax.scan(add, zeros, parts)[0]
