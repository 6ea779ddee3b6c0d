"""The learning rate as a function of the number of completed updates."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bertjax.config import RunConfig

Schedule = Callable[[Any], Any]  # number of completed updates -> learning rate, a float32 scalar

# Factor on the peak rate at progress 0..1 through the schedule; ``power`` is the config's.
DECAYS: dict[str, Callable[[jax.Array, float], jax.Array]] = {
    "polynomial": lambda progress, power: (1.0 - progress) ** power,
    "cosine": lambda progress, power: 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
    "constant": lambda progress, power: jnp.ones_like(progress),
}


def warmup_then_decay(
    peak: float | None, warmup_steps: int | None, total_steps: int, decay: str, power: float, decay_from: int = 0
) -> Schedule:
    """peak * step / warmup_steps, then peak * decay((step - decay_from) / (total_steps - decay_from)).

    As pretraining has it the decay is measured from step 0, not from the end of the warm-up, so that the rate drops a
    little where the two meet (google-research/bert optimization.py, create_optimizer). Fine-tuning measures it from
    there, as transformers' get_linear_schedule_with_warmup does. Update number 0 has rate 0.
    """
    if peak is None or warmup_steps is None:
        raise ValueError("a phase that begins a schedule needs learning_rate and warmup_steps")

    def schedule(step: jax.Array) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        progress = jnp.clip((step - decay_from) / max(total_steps - decay_from, 1), 0.0, 1.0)
        decayed = peak * DECAYS[decay](progress, power)
        return jnp.where(step < warmup_steps, peak * step / max(warmup_steps, 1), decayed)

    return schedule


def run_schedule(run: RunConfig) -> Schedule:
    """The learning rate over all phases: one schedule, or one a phase (optimizer.schedule_span)."""
    shape = {"decay": run.optimizer.schedule, "power": run.optimizer.power}
    phases = list(run.phases.values())
    if run.optimizer.schedule_span == "run":
        first = phases[0]
        return warmup_then_decay(first.learning_rate, first.warmup_steps, run.total_steps, **shape)
    parts = [warmup_then_decay(p.learning_rate, p.warmup_steps, p.steps, **shape) for p in phases]
    return optax.join_schedules(parts, [run.phase_start(index) for index in range(1, len(phases))])
