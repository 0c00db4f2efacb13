"""Shared arithmetic against exact rational numbers."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune._arithmetic import _LONG_ROW, column_squares, decay_and_gain, ratio


def test_ratio_at_zeros_and_nan():
    numerator, denominator = jnp.array([0.0, 0, 2, -2, jnp.nan, 0, 3]), jnp.array([0.0, 4, 0, 0, 0, jnp.nan, 2])
    np.testing.assert_array_equal(ratio(numerator, denominator), [0, 0, np.inf, -np.inf, np.nan, np.nan, 1.5])
    slopes = jax.grad(lambda n, d: ratio(n, d).sum(), (0, 1))(jnp.array([0.0, 1.0]), jnp.array([0.0, 2.0]))
    np.testing.assert_array_equal(slopes, [[0, 0.5], [0, -0.25]])


@pytest.mark.parametrize("rate", [0.0, 2.0**-50, 2.0**-9, 0.5, 1 - 2.0**-30, 1.0, 1 + 2.0**-30, 1.5, 2.0, 2.25])
def test_decay_and_gain_are_exact_powers(rate):
    """Both sides to rounding: neither is one minus the other."""
    steps = np.array([0, 1, 2, 3, 10, 101])
    decay, gain = decay_and_gain(jnp.full(6, rate), jnp.asarray(steps))
    powers = [(1 - Fraction(rate)) ** int(t) for t in steps]
    np.testing.assert_allclose(decay, [float(power) for power in powers], rtol=1e-13)
    np.testing.assert_allclose(gain, [float(1 - power) for power in powers], rtol=1e-13)


def test_decay_over_many_steps_and_of_nan():
    decay, gain = decay_and_gain(jnp.array([1e-12, 0.0, 2.0, 2.0, jnp.nan]), jnp.array([10**12, 10**15, 4, 5, 2]))
    np.testing.assert_allclose(decay, [np.exp(-1), 1, 1, -1, np.nan], rtol=1e-11)
    np.testing.assert_allclose(gain, [-np.expm1(-1), 0, 0, 2, np.nan], rtol=1e-11)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("columns", [3, _LONG_ROW // 8])
def test_column_squares_are_sums_over_rows_however_long(rows, columns):
    x = np.random.default_rng(0).standard_normal((rows, columns))
    weights = np.linspace(-1, 2, columns)
    value, slope = jax.jit(jax.value_and_grad(lambda x: weights @ column_squares(x)))(x)
    np.testing.assert_allclose(value, weights @ (x**2).sum(0), rtol=1e-11)
    np.testing.assert_allclose(slope, 2 * weights * x, rtol=1e-14)
    looped = "scan" in str(jax.make_jaxpr(column_squares)(x))
    assert looped == (columns > 3)
