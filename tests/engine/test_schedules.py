"""Learning rates against the formulas of google-research/bert optimization.py and of NVIDIA's recipe."""

import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.config import OptimizerConfig, PhaseConfig, RunConfig
from bertjax.engine.schedules import run_schedule


def run(span="run", decay="polynomial", power=1.0):
    second = {"learning_rate": 4e-3, "warmup_steps": 2} if span == "phase" else {}
    return RunConfig(
        phases={
            "phase1": PhaseConfig(steps=12, learning_rate=1e-4, warmup_steps=4),
            "phase2": PhaseConfig(steps=8, **second),
        },
        optimizer=OptimizerConfig(schedule=decay, power=power, schedule_span=span),
    )


def rates(config, steps):
    schedule = run_schedule(config)
    return [float(schedule(jnp.int32(step))) for step in range(steps)]


def test_one_schedule_over_all_phases_as_in_2018():
    """Warm-up step / 4; then (1 - step / 20), counted from 0: at step 4 the rate drops from 1.0 to .8 of the peak."""
    expected = [1e-4 * (step / 4 if step < 4 else 1 - step / 20) for step in range(20)]
    np.testing.assert_allclose(rates(run(), 20), expected, rtol=1e-6)


def test_each_phase_its_own_with_a_square_root():
    first = [1e-4 * (s / 4 if s < 4 else np.sqrt(1 - s / 12)) for s in range(12)]
    second = [4e-3 * (s / 2 if s < 2 else np.sqrt(1 - s / 8)) for s in range(8)]
    np.testing.assert_allclose(rates(run("phase", power=0.5), 20), first + second, rtol=1e-6)


@pytest.mark.parametrize(("decay", "at_half"), [("cosine", 0.5e-4), ("constant", 1e-4)])
def test_other_decays(decay, at_half):
    assert rates(run(decay=decay), 11)[10] == pytest.approx(at_half, rel=1e-6)


def test_phase_shorter_than_its_warmup():
    config = RunConfig(phases={"p": PhaseConfig(steps=3, learning_rate=1.0, warmup_steps=10)})
    np.testing.assert_allclose(rates(config, 3), [0.0, 0.1, 0.2], rtol=1e-6)
