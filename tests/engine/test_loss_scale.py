import jax.numpy as jnp

from bertjax.engine.state import FIRST_SCALE, GROW_AFTER, LossScale, adjusted, initial_loss_scale


def test_halves_on_overflow_and_doubles_after_a_good_stretch():
    scale = adjusted(initial_loss_scale("float16"), jnp.asarray(False))
    assert float(scale.scale) == FIRST_SCALE / 2
    scale = adjusted(LossScale(scale.scale, jnp.int32(GROW_AFTER - 1)), jnp.asarray(True))
    assert float(scale.scale) == FIRST_SCALE
    assert int(scale.good_steps) == 0


def test_other_precisions_begin_at_one():
    assert float(initial_loss_scale("bfloat16").scale) == 1.0
