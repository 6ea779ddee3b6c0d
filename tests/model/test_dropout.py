import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.model.dropout import DropoutSeed, drop, dropout_at


def dropout_seed(rows, seed=0, step=0):
    return DropoutSeed(jnp.uint32(seed), jnp.uint32(step), jnp.asarray(rows, jnp.uint32))


def keep_mask(shape, dropout):
    """bool: which elements of an array of this shape ``drop`` keeps."""
    return drop(jnp.ones(shape), dropout) != 0


def test_share_of_kept_elements():
    for rate in (0.1, 0.5, 0.01):
        mask = np.asarray(keep_mask((64, 128, 64), dropout_at(3, rate, dropout_seed(range(64)))))
        expected = 1 - rate
        deviation = np.sqrt(rate * expected / mask.size)
        assert abs(mask.mean() - expected) < 5 * deviation


@pytest.mark.parametrize("change", ["seed", "step", "site", "row"])
def test_masks_are_independent_of_each_other(change):
    """Correlation of two masks stays within what chance explains, and no shift of one equals the other."""
    kwargs = {"seed": 1, "step": 1} | ({change: 2} if change in ("seed", "step") else {})
    one = np.asarray(keep_mask((1, 1 << 16), dropout_at(4, 0.5, dropout_seed([7], 1, 1))))[0]
    other_rows, other_site = ([8] if change == "row" else [7]), (5 if change == "site" else 4)
    other = np.asarray(keep_mask((1, 1 << 16), dropout_at(other_site, 0.5, dropout_seed(other_rows, **kwargs))))[0]
    spectrum = np.fft.rfft(one - 0.5) * np.conj(np.fft.rfft(other - 0.5))
    correlation = np.fft.irfft(spectrum, n=one.size) / (0.25 * one.size)
    assert np.abs(correlation).max() < 6 / np.sqrt(one.size)


def test_masks_have_no_pattern_inside_a_row():
    mask = np.asarray(keep_mask((1, 1 << 16), dropout_at(0, 0.5, dropout_seed([3]))))[0] - 0.5
    power = np.abs(np.fft.rfft(mask)) ** 2
    # Each frequency of white noise has an exponential power of mean n/4; the largest of 2**15 is near 10.4 means.
    assert power.max() / (0.25 * mask.size) < 20


def test_rows_are_numbered_not_positioned():
    whole = keep_mask((8, 16, 4), dropout_at(2, 0.1, dropout_seed(range(8))))
    part = keep_mask((3, 16, 4), dropout_at(2, 0.1, dropout_seed([6, 1, 4])))
    np.testing.assert_array_equal(part, np.asarray(whole)[[6, 1, 4]])


def test_gradient_uses_the_same_mask():
    x = jnp.ones((4, 32, 8))
    n = dropout_seed(range(4))
    y = drop(x, dropout_at(1, 0.3, n))
    np.testing.assert_array_equal(jax.grad(lambda x: drop(x, dropout_at(1, 0.3, n)).sum())(x), y)
    np.testing.assert_allclose(y, np.asarray(keep_mask(x.shape, dropout_at(1, 0.3, n))) / 0.7, rtol=1e-6)


def test_off_without_seed_or_rate():
    x = jnp.ones((2, 3))
    assert drop(x, dropout_at(0, 0.5, None)) is x
    assert drop(x, dropout_at(0, 0.0, dropout_seed([0, 1]))) is x
